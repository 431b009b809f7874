"""The waiting tasks in Postgres: which is next and who takes it; used by the dispatcher."""

import dataclasses
import datetime
import uuid

from services.common.postgres import Connection, Pool, transaction
from services.task_manager import assignments, state_changes
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.task import Change, State
from services.task_manager.hub import Hub
from services.task_manager.room import Room


class TaskQueue:
    """All methods are short transactions; raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool, hub: Hub, *, owner: uuid.UUID, lease: datetime.timedelta) -> None:
        self._pool = pool
        self._hub = hub
        self._owner = owner
        self._lease = lease

    async def has_queued(self) -> bool:
        """Whether any task waits."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute("SELECT 1 FROM task_manager.task WHERE state = 'QUEUED' LIMIT 1")
            return await cursor.fetchone() is not None

    async def claim(self, runner: str, free_processes: int) -> Assignment | None:
        """Claims the oldest waiting task that fits, for a run on `runner`; None when there is none."""
        async with transaction(self._pool) as connection:
            locked = await _lock_oldest(connection, free_processes)
            if locked is None:
                return None
            attempt = locked.attempt + 1
            run_name = f"runs/{locked.id}-{attempt}"
            await self._take(connection, locked.id, attempt, runner, run_name)
            change = Change(State.STARTING, f"attempt {attempt} starts on {runner}")
            await state_changes.move(connection, dataclasses.replace(locked, attempt=attempt), change)
            assignment = await assignments.read_one(connection, locked.id)
        self._hub.notify(locked.id)
        return assignment

    async def explain_queue(self, reason: str, room: Room) -> None:
        """Says what waiting tasks wait for: `reason`, or more processes than there are."""
        async with transaction(self._pool) as connection:
            await connection.execute(
                # Only rows that change are locked: this runs twice a second over the whole queue.
                "WITH told AS (SELECT t.id, why.reason FROM task_manager.task t, LATERAL (SELECT"
                " CASE WHEN t.processes > %(largest)s THEN 'needs ' || t.processes || ' processes;"
                " the largest trainer has ' || %(largest)s"
                " WHEN %(free)s > 0 AND t.processes > %(free)s THEN 'needs ' || t.processes || ' processes on one trainer; '"
                " || %(free)s || CASE WHEN %(free)s = 1 THEN ' is free' ELSE ' are free' END"
                " ELSE %(reason)s END AS reason) why"
                " WHERE t.state = 'QUEUED' AND t.state_reason <> why.reason FOR NO KEY UPDATE OF t SKIP LOCKED)"
                " UPDATE task_manager.task t SET state_reason = told.reason, update_time = now()"
                " FROM told WHERE t.id = told.id",
                {"reason": reason, "largest": room.largest, "free": room.free},
            )

    async def _take(self, connection: Connection, task_id: uuid.UUID, attempt: int, runner: str, run_name: str) -> None:
        parameters = {"id": task_id, "attempt": attempt, "runner": runner, "run_name": run_name}
        parameters |= {"owner": self._owner, "lease": self._lease}
        await connection.execute(
            "UPDATE task_manager.task SET attempt = %(attempt)s, runner = %(runner)s, run_name = %(run_name)s WHERE id = %(id)s",
            parameters,
        )
        await connection.execute(
            "UPDATE task_manager.event_head SET epoch = epoch + 1, run_sequence = 0, owner = %(owner)s,"
            " lease_expire_time = now() + %(lease)s WHERE task_id = %(id)s",
            parameters,
        )
        await connection.execute("DELETE FROM task_manager.task_progress WHERE task_id = %(id)s", parameters)


async def _lock_oldest(connection: Connection, free_processes: int) -> state_changes.Locked | None:
    cursor = await connection.execute(
        "SELECT id, state, attempt, lost_run_count FROM task_manager.task WHERE state = 'QUEUED' AND processes <= %(free)s"
        " ORDER BY -priority, create_time, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED",
        {"free": free_processes},
    )
    row = await cursor.fetchone()
    return state_changes.Locked(row["id"], State(row["state"]), row["attempt"], row["lost_run_count"]) if row else None
