"""Tries of ended tasks in Postgres; used by `retrying`."""

import uuid

from services.common.errors import ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.task_manager import state_changes
from services.task_manager.domain import retry
from services.task_manager.domain.task import Change, Retry, State, Task
from services.task_manager.hub import Hub
from services.task_manager.repository import not_found, task_within

_INSERT = """
INSERT INTO task_manager.task_retry (task_id, request_id, request_digest, attempt, from_start, changes)
VALUES (%(task_id)s, %(request_id)s, %(request_digest)s, %(attempt)s, %(from_start)s, %(changes)s)
"""
_UPDATE = """
UPDATE task_manager.task SET lost_run_count = 0, cancel_request_time = NULL, cancel_reason = '',
    -- A rest is over; the time that somebody wanted before the first attempt still holds.
    not_before = CASE WHEN attempt = 0 THEN not_before END,
    first_attempt = CASE WHEN %(from_start)s THEN attempt + 1 ELSE first_attempt END,
    overrides = coalesce(%(overrides)s, overrides),
    effective_hyperparameters = coalesce(%(effective_hyperparameters)s, effective_hyperparameters),
    processes = coalesce(%(processes)s, processes), memory_bytes = coalesce(%(memory_bytes)s, memory_bytes),
    expected_duration = CASE WHEN %(effective_hyperparameters)s IS NULL THEN expected_duration ELSE %(expected_duration)s END
WHERE id = %(task_id)s
"""
_KNOWN = "SELECT task_id, request_digest FROM task_manager.task_retry WHERE request_id = %(request_id)s"


class RetryRepository:
    """Every method is one transaction and raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool, hub: Hub) -> None:
        self._pool = pool
        self._hub = hub

    async def is_known(self, task_id: uuid.UUID, request_id: uuid.UUID, digest: bytes) -> bool:
        """Whether this very call was made before; raises ServiceError REQUEST_ID_REUSED when another one was."""
        async with transaction(self._pool) as connection:
            return await _is_known(connection, task_id, request_id, digest)

    async def retry(self, wanted: Retry) -> Task:
        """Queues the task; raises NotFound, ServiceError TASK_NOT_ENDED_BADLY, REQUEST_ID_REUSED. A repeat changes nothing."""
        async with transaction(self._pool, "tasks.retry") as connection:
            locked = await state_changes.lock(connection, wanted.task_id)
            if locked is None:
                raise not_found(wanted.task_id)
            # Two equal calls at once: the second finds the first's row as soon as it has the lock.
            if not await _is_known(connection, wanted.task_id, wanted.request_id, wanted.request_digest):
                retry.check_state(locked.state)
                parameters = wanted.parameters() | {"attempt": locked.attempt}
                await connection.execute(_INSERT, parameters)
                await connection.execute(_UPDATE, parameters)
                await state_changes.move(connection, locked, Change(State.QUEUED, _reason(wanted)))
            task = await task_within(connection, wanted.task_id)
        self._hub.notify(wanted.task_id)
        self._hub.work.set()
        return task


async def _is_known(connection: Connection, task_id: uuid.UUID, request_id: uuid.UUID | None, digest: bytes) -> bool:
    row = await (await connection.execute(_KNOWN, {"request_id": request_id})).fetchone()
    if row is None:
        return False
    if (row["task_id"], row["request_digest"]) != (task_id, digest):
        raise ServiceError("REQUEST_ID_REUSED", f"request_id {request_id} has retried tasks/{row['task_id']} in another way")
    return True


def _reason(wanted: Retry) -> str:
    how = "from the start" if wanted.from_start else "from the last checkpoint"
    return f"trying again {how} was asked for" + (", with other numbers" if wanted.changes else "")
