"""Tasks in Postgres: what callers of the API ask for; used by creation and the servicer.

Callers race with one another and with the task manager that owns the task. Every move locks the task's row first, decides by a
pure function of the state that it finds (`domain/transitions`), and writes state, history and event in the same transaction. So
the first commit wins, the second decides by what the first has left, and what was asked for twice is done once. A table of
permitted moves in the database refuses everything else. What is answered is the task as the caller's own transaction leaves it:
it may go on, or be gone, before the answer is read.

`state_changes.lock` is SELECT ... FOR NO KEY UPDATE; `state_changes.move` updates the row, whose trigger writes the history, and
appends the event under the next number. What `domain/transitions` does not permit it raises, and the transaction leaves nothing.
"""

import dataclasses
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.task_manager import state_changes
from services.task_manager.domain import transitions
from services.task_manager.domain.task import Change, NewTask, State, Task, TaskUpdate, Transition
from services.task_manager.hub import Hub
from services.task_manager.insertion import insert
from services.task_manager.project_quota import ProjectQuota
from services.task_manager.rows import TASK_SELECT, task_from_row


class TaskRepository:
    """One method per question; every method is one transaction and raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool, hub: Hub, quota: ProjectQuota | None = None) -> None:
        """`quota`: what projects may have, None = anything."""
        self._quota = quota or ProjectQuota()
        self._pool = pool
        self._hub = hub

    async def create(self, new: NewTask) -> Task:
        """Records a task and its first event; a repeat of a request returns the first task.

        Raises ServiceError REQUEST_ID_REUSED when the id was used for another request, PROJECT_QUOTA_EXCEEDED.
        """
        # Of two equal requests at once one inserts; the other waits for its commit and inserts nothing.
        async with transaction(self._pool, "tasks.create") as connection:
            await self._quota.check(connection, new.labels.get("project", ""), new.processes)
            await insert(connection, new)
        self._hub.work.set()
        if new.request_id and (first := await self.find_request(new.request_id, new.request_digest)):
            return first
        return await self.get(new.id)

    async def find_request(self, request_id: uuid.UUID, digest: bytes) -> Task | None:
        """The task that a request created, None when the id is new; raises ServiceError REQUEST_ID_REUSED."""
        query = "SELECT id, request_digest FROM task_manager.task WHERE request_id = %(request_id)s"
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(query, {"request_id": request_id})).fetchone()
        if row is None:
            return None
        if row["request_digest"] != digest:
            raise ServiceError("REQUEST_ID_REUSED", f"request_id {request_id} created tasks/{row['id']} from another request")
        return await self.get(row["id"])

    async def get(self, task_id: uuid.UUID) -> Task:
        """One task; raises NotFound."""
        async with transaction(self._pool) as connection:
            return await read_task(connection, task_id)

    async def run_of(self, task_id: uuid.UUID) -> tuple[str, str]:
        """(the address of its trainer, the name of its newest run), both empty before the first; raises NotFound."""
        query = "SELECT runner, run_name FROM task_manager.task WHERE id = %(id)s"
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(query, {"id": task_id})).fetchone()
        if row is None:
            raise not_found(task_id)
        return row["runner"], row["run_name"]

    async def cancel(self, task_id: uuid.UUID, reason: str) -> Task:
        """Records the wish: CANCELLED at once where no run can be, else CANCELLING; raises NotFound."""
        async with transaction(self._pool, "tasks.cancel") as connection:
            locked = await state_changes.lock(connection, task_id)
            if locked is None:
                raise not_found(task_id)
            target = transitions.after_cancel(locked.state)
            if target is not locked.state:
                await connection.execute(
                    "UPDATE task_manager.task SET cancel_request_time = now(), cancel_reason = %(reason)s WHERE id = %(id)s",
                    {"id": task_id, "reason": reason},
                )
                text = f"cancelling was asked for: {reason}" if reason else "cancelling was asked for"
                await state_changes.move(connection, locked, Change(target, text))
            task = await read_task(connection, task_id)
        self._hub.notify(task_id)
        self._hub.work.set()
        return task

    async def pause(self, task_id: uuid.UUID, reason: str) -> Task:
        """Records the wish for a rest; raises NotFound or ServiceError TASK_NOT_RUNNING."""
        text = f"pausing was asked for: {reason}" if reason else "pausing was asked for"
        return await self._ask(task_id, transitions.after_pause, text)

    async def resume(self, task_id: uuid.UUID) -> Task:
        """Queues a paused task; raises NotFound or ServiceError TASK_NOT_PAUSED."""
        return await self._ask(task_id, transitions.after_resume, "resuming was asked for")

    async def _ask(self, task_id: uuid.UUID, next_state: Callable[[State], State], text: str) -> Task:
        """Moves it to what `next_state` says of the state it is in: the same state = nothing to do, an error = not from there."""
        async with transaction(self._pool, "tasks.ask") as connection:
            locked = await state_changes.lock(connection, task_id)
            if locked is None:
                raise not_found(task_id)
            target = next_state(locked.state)
            if target is not locked.state:
                await state_changes.move(connection, locked, Change(target, text))
            task = await read_task(connection, task_id)
        self._hub.notify(task_id)
        self._hub.work.set()
        return task

    async def update(self, task_id: uuid.UUID, update: TaskUpdate) -> Task:
        """Changes what is given, None = as it is; raises NotFound. One statement, so the last caller wins, field by field."""
        parameters = dataclasses.asdict(update) | {"id": task_id}
        parameters["labels"] = None if update.labels is None else Jsonb(dict(update.labels))
        async with transaction(self._pool) as connection:
            await connection.execute(
                "UPDATE task_manager.task SET display_name = coalesce(%(display_name)s, display_name),"
                " description = coalesce(%(description)s, description), labels = coalesce(%(labels)s, labels),"
                " priority = coalesce(%(priority)s, priority),"
                " update_time = now() WHERE id = %(id)s",
                parameters,
            )
            return await read_task(connection, task_id)

    async def transitions(self, task_id: uuid.UUID) -> Sequence[Transition]:
        """Its moves, oldest first; at most the newest 100."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(
                "SELECT from_state, to_state, reason, attempt, time FROM task_manager.task_transition"
                " WHERE task_id = %(id)s ORDER BY number DESC LIMIT 100",
                {"id": task_id},
            )
            return [_transition(row) for row in reversed(await cursor.fetchall())]

    async def delete(self, task_id: uuid.UUID) -> None:
        """Removes a terminal task and everything recorded about it; raises NotFound or ServiceError TASK_NOT_TERMINAL."""
        async with transaction(self._pool, "tasks.delete") as connection:
            locked = await state_changes.lock(connection, task_id)
            if locked is None:
                raise not_found(task_id)
            if not locked.state.is_terminal:
                raise ServiceError("TASK_NOT_TERMINAL", f"tasks/{task_id} is {locked.state.value}")
            # Its events, history and progress refer to it and go with it.
            await connection.execute("DELETE FROM task_manager.task WHERE id = %(id)s", {"id": task_id})
        self._hub.notify(task_id)


def not_found(task_id: uuid.UUID) -> NotFound:
    """The error for a task that does not exist."""
    return NotFound("TASK_NOT_FOUND", f"tasks/{task_id}")


async def read_task(connection: Connection, task_id: uuid.UUID) -> Task:
    """A task as the transaction of `connection` sees it; raises NotFound."""
    cursor = await connection.execute(TASK_SELECT + "WHERE t.id = %(id)s", {"id": task_id})
    row = await cursor.fetchone()
    if row is None:
        raise not_found(task_id)
    return task_from_row(row)


def _transition(row: Mapping[str, Any]) -> Transition:
    before = State(row["from_state"]) if row["from_state"] else None
    return Transition(before, State(row["to_state"]), row["reason"], row["attempt"], row["time"])
