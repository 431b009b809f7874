"""Reads owned tasks as assignments; used by the queue and the claims."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.postgres import Connection
from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.task import State
from services.task_manager.rows import progress_from_row

SELECT = """
SELECT t.id, t.state, t.state_reason, t.attempt, t.runner, t.run_name, t.processes, t.memory_bytes,
       t.max_attempts, t.first_attempt, t.fenced_after, t.spec, t.effective_hyperparameters, t.kind,
       h.epoch, h.owner, h.run_sequence,
       p.step, p.total_steps, p.epoch AS progress_epoch, p.remaining, p.metric_names, p.metric_values
FROM task_manager.task t
JOIN task_manager.event_head h ON h.task_id = t.id
LEFT JOIN task_manager.task_progress p ON p.task_id = t.id
"""


async def read_one(connection: Connection, task_id: uuid.UUID) -> Assignment:
    """The assignment of a task whose head the caller has locked."""
    row = await (await connection.execute(f"{SELECT} WHERE t.id = %(id)s".encode(), {"id": task_id})).fetchone()
    assert row is not None, "the caller holds a lock on it"
    return from_row(row)


async def read_many(connection: Connection, task_ids: Sequence[uuid.UUID]) -> list[Assignment]:
    """The assignments of tasks whose heads the caller has locked, in that order."""
    rows = await (await connection.execute(f"{SELECT} WHERE t.id = ANY(%(ids)s)".encode(), {"ids": list(task_ids)})).fetchall()
    found = {row["id"]: from_row(row) for row in rows}
    return [found[task_id] for task_id in task_ids]


def from_row(row: Mapping[str, Any]) -> Assignment:
    """The assignment in a row that SELECT gives."""
    same = ("state_reason", "attempt", "runner", "run_name", "run_sequence", "processes", "memory_bytes")
    messages = ("spec", "effective_hyperparameters", "max_attempts", "first_attempt", "fenced_after")
    return Assignment(
        claim=Claim(row["id"], row["epoch"], row["owner"]),
        state=State(row["state"]),
        kind=Kind(row["kind"]),
        progress=progress_from_row(row) if row["step"] is not None else None,
        **{name: row[name] for name in (*same, *messages)},
    )
