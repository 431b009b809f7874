"""Takes many waiting tasks for one runner inside a transaction, with few calls however many they are; used by the queue.

The caller holds the lock of the runner, and that of the quotas if there are any, so that what is counted here stays as it is.
"""

import collections
import dataclasses
import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.common.postgres import Connection
from services.task_manager import runner_contact
from services.task_manager.conversion import state_change_event
from services.task_manager.domain import transitions
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.shares import has_quota
from services.task_manager.domain.task import Change, State
from services.task_manager.frames import encode

_HELD = """
SELECT runner, coalesce(labels ->> 'project', '') AS project, sum(processes)::bigint AS processes,
    sum(memory_bytes)::bigint AS memory_bytes FROM task_manager.task
WHERE state IN ('STARTING', 'RUNNING', 'PAUSING', 'CANCELLING') AND (runner = %(runner)s OR %(all)s) GROUP BY 1, 2
"""
_LOCK = """
SELECT id, attempt, processes, memory_bytes, coalesce(labels ->> 'project', '') AS project, now() AS time FROM task_manager.task
WHERE id = ANY(%(ids)s) AND state = 'QUEUED' AND (not_before IS NULL OR not_before <= now()) FOR NO KEY UPDATE SKIP LOCKED
"""
# The move of `state_changes.move`, for many at once: task, event head and event together.
_TAKE = """
WITH chosen AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(run_names)s::text[], %(reasons)s::text[], %(events)b::bytea[])
        AS one (id, attempt, run_name, reason, event)
), taken AS (
    UPDATE task_manager.task t SET attempt = chosen.attempt, runner = %(runner)s, run_name = chosen.run_name,
        fenced_after = %(fenced_after)s, state = %(state)s::task_manager.task_state, state_reason = chosen.reason,
        update_time = now()
    FROM chosen WHERE t.id = chosen.id
), forgotten AS (
    DELETE FROM task_manager.task_progress p USING chosen WHERE p.task_id = chosen.id
), head AS (
    UPDATE task_manager.event_head h SET epoch = epoch + 1, run_sequence = 0, head_sequence = head_sequence + 1,
        owner = %(owner)s, lease_expire_time = now() + %(lease)s
    FROM chosen WHERE h.task_id = chosen.id RETURNING h.task_id, h.head_sequence, h.epoch, chosen.event
)
INSERT INTO task_manager.event_frame (task_id, first_sequence, last_sequence, epoch, payload)
SELECT task_id, head_sequence, head_sequence, epoch, event FROM head
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Taker:
    """Who takes tasks for which machine; `quota` processes may a project hold, 0 = any number."""

    owner: uuid.UUID
    lease: datetime.timedelta
    machine: Machine
    quota: int

    async def take(self, connection: Connection, task_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
        """Those that were taken, in order; left out are those that it is too late for and those that there is no room for."""
        held = await (await connection.execute(_HELD, {"runner": self.machine.trainer, "all": bool(self.quota)})).fetchall()
        rows = await (await connection.execute(_LOCK, {"ids": list(task_ids)})).fetchall()
        locked = {row["id"]: row for row in rows}
        chosen = list(self._fitting([locked[task_id] for task_id in task_ids if task_id in locked], held))
        if chosen:
            await connection.execute(_TAKE, self._parameters(chosen))
            if self.machine.fenced_after:
                await connection.execute(runner_contact.HEARD, {"runners": [self.machine.trainer]})
        return [row["id"] for row in chosen]

    def _fitting(self, rows: Sequence[Mapping[str, Any]], held: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        own = [row for row in held if row["runner"] == self.machine.trainer]
        free = self.machine.total - sum(row["processes"] for row in own)
        memory = self.machine.total_memory - sum(row["memory_bytes"] for row in own)
        projects: collections.Counter[str] = collections.Counter()
        for row in held:
            projects[row["project"]] += row["processes"]
        for row in rows:
            fits = row["processes"] <= free and row["memory_bytes"] <= memory
            if fits and has_quota(projects, row["project"], row["processes"], self.quota):
                free -= row["processes"]
                memory -= row["memory_bytes"]
                projects[row["project"]] += row["processes"]
                yield row

    def _parameters(self, chosen: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        transitions.check(State.QUEUED, State.STARTING)
        attempts = [row["attempt"] + 1 for row in chosen]
        changes = [Change(State.STARTING, f"attempt {attempt} starts on {self.machine.trainer}") for attempt in attempts]
        return {
            "ids": [row["id"] for row in chosen],
            "attempts": attempts,
            "run_names": [f"runs/{row['id']}-{attempt}" for row, attempt in zip(chosen, attempts, strict=True)],
            "reasons": [change.reason for change in changes],
            "events": [_event(row, change) for row, change in zip(chosen, changes, strict=True)],
            "runner": self.machine.trainer,
            "state": State.STARTING.value,
            "owner": self.owner,
            "lease": self.lease,
            "fenced_after": self.machine.fenced_after,
        }


def _event(row: Mapping[str, Any], change: Change) -> bytes:
    # Its row numbers it.
    return encode([state_change_event(0, row["time"], row["attempt"] + 1, State.QUEUED, change)])
