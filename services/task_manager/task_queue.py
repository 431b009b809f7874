"""The waiting tasks in Postgres: which are next, what keeps them waiting, and who takes them; used by dispatcher and outlook."""

import dataclasses
import datetime
import uuid
from collections.abc import Sequence

from services.common.postgres import Pool, transaction
from services.task_manager import assignments
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.schedule import Running, Waiting
from services.task_manager.hub import Hub
from services.task_manager.task_claiming import Taker

WINDOW = 100
"""Waiting tasks of each size and project that are considered at once, while there are few projects."""
_FULL_LINES = 16

# Any constant will do as long as every task manager uses the same one.
_RUNNER_LOCK = 716_391
_QUOTA_LOCK = 7_163_911
# The first of every size and project, so that nobody's are waded through for those of others; fewer of each where there are many.
_WAITING = """
WITH RECURSIVE line AS (
    (SELECT processes, coalesce(labels ->> 'project', '') AS project FROM task_manager.task WHERE state = 'QUEUED'
     ORDER BY 1, 2 LIMIT 1)
    UNION ALL
    SELECT next.* FROM line, LATERAL (
        SELECT processes, coalesce(labels ->> 'project', '') AS project FROM task_manager.task
        WHERE state = 'QUEUED' AND (processes, coalesce(labels ->> 'project', '')) > (line.processes, line.project)
        ORDER BY 1, 2 LIMIT 1
    ) AS next
)
SELECT head.id, head.processes, head.create_time, head.duration, -head.rank AS priority, head.project
FROM line, LATERAL (
    SELECT * FROM task_manager.due_task WHERE processes = line.processes AND project = line.project
    ORDER BY rank, create_time, id LIMIT greatest(5, %(limit)s / (SELECT count(*) / %(full)s + 1 FROM line))
) AS head WHERE line.processes <= %(largest)s ORDER BY head.rank, head.create_time, head.id
"""
_RUNNING = """
SELECT t.runner AS trainer, t.processes, t.create_time, coalesce(p.remaining, t.expected_duration) AS remaining,
    t.priority, coalesce(t.labels ->> 'project', '') AS project
FROM task_manager.task t LEFT JOIN task_manager.task_progress p ON p.task_id = t.id
WHERE t.state IN ('STARTING', 'RUNNING', 'PAUSING', 'CANCELLING')
"""


@dataclasses.dataclass(frozen=True, slots=True)
class QueueView:
    """Tasks that could start now, in the order of the queue, and those that hold processes."""

    waiting: Sequence[Waiting]
    running: Sequence[Running]
    now: datetime.datetime
    """By the database, whose clock is the only one that decides."""


class TaskQueue:
    """All methods are short transactions; raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool, hub: Hub, *, owner: uuid.UUID, lease: datetime.timedelta, quota: int = 0) -> None:
        """`quota`: processes that a project may hold, 0 = no limit."""
        self._pool = pool
        self._hub = hub
        self._owner = owner
        self._lease = lease
        self._quota = quota

    async def has_queued(self) -> bool:
        """Whether any task waits."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute("SELECT 1 FROM task_manager.task WHERE state = 'QUEUED' LIMIT 1")
            return await cursor.fetchone() is not None

    async def look(self, *, largest: int, limit: int = WINDOW) -> QueueView:
        """The first `limit` waiting tasks of each size up to `largest` processes, and what is active."""
        parameters = {"largest": largest, "full": _FULL_LINES, "limit": limit}
        async with transaction(self._pool) as connection:
            waiting = await (await connection.execute(_WAITING, parameters)).fetchall()
            running = await (await connection.execute(_RUNNING)).fetchall()
            clock = await (await connection.execute("SELECT now() AS now")).fetchone()
        assert clock is not None, "it always answers"
        return QueueView([Waiting(**row) for row in waiting], [Running(**row) for row in running], clock["now"])

    async def claim(self, task_ids: Sequence[uuid.UUID], runner: str, total_processes: int) -> list[Assignment]:
        """Claims waiting tasks for runs on `runner`, which has so many processes; those it was too late for are left out.

        Claims for one runner follow on one another, so that several task managers never promise the same processes.
        """
        async with transaction(self._pool, "queue.claim") as connection:
            if self._quota:
                # A project may hold processes of several runners.
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_QUOTA_LOCK,))
            await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_RUNNER_LOCK, runner))
            taker = Taker(self._owner, self._lease, runner, total_processes, self._quota)
            claimed = await taker.take(connection, task_ids)
            found = await assignments.read_many(connection, claimed)
        for assignment in found:
            self._hub.notify(assignment.claim.task_id)
        return found
