"""The waiting tasks in Postgres: which are next, what keeps them waiting, and who takes them; used by dispatcher and outlook."""

import dataclasses
import datetime
import uuid
from collections.abc import Sequence

from psycopg.types.json import Jsonb

from services.common.postgres import Pool, session, transaction
from services.task_manager import assignments
from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.schedule import Running, Waiting
from services.task_manager.hub import Hub
from services.task_manager.task_claiming import Taker

WINDOW = 100
"""Waiting tasks of each size, project and set of labels that are considered at once, while there are few projects."""
_FULL_LINES = 16

# Any constant will do as long as every task manager uses the same one.
_RUNNER_LOCK = 716_391
_QUOTA_LOCK = 7_163_911
# The first of every size, project and set of labels, so that nobody's are waded through for those of others; fewer of each where
# there are many. Left out is what no trainer that is there could take, by size and labels, or for want of memory.
_WAITING = """
WITH RECURSIVE line AS (
    (SELECT processes, coalesce(labels ->> 'project', '') AS project, runner_labels FROM task_manager.task WHERE state = 'QUEUED'
     ORDER BY 1, 2, 3 LIMIT 1)
    UNION ALL
    SELECT next.* FROM line, LATERAL (
        SELECT processes, coalesce(labels ->> 'project', '') AS project, runner_labels FROM task_manager.task
        WHERE state = 'QUEUED' AND (processes, coalesce(labels ->> 'project', ''), runner_labels)
            > (line.processes, line.project, line.runner_labels)
        ORDER BY 1, 2, 3 LIMIT 1
    ) AS next
), machine AS (
    SELECT * FROM unnest(%(totals)s::int[], %(memories)s::bigint[], %(labels)s::jsonb[]) AS one (total, memory, labels)
), open AS (
    SELECT line.*, max(machine.memory) AS most_memory FROM line JOIN machine
        ON machine.total >= line.processes AND machine.labels @> line.runner_labels
    GROUP BY line.processes, line.project, line.runner_labels
)
SELECT head.id, head.processes, head.create_time, head.duration, -head.rank AS priority, head.project, head.memory_bytes,
    head.runner_labels
FROM open, LATERAL (
    SELECT * FROM task_manager.due_task WHERE processes = open.processes AND project = open.project
        AND runner_labels = open.runner_labels AND memory_bytes <= open.most_memory
    ORDER BY rank, create_time, id LIMIT greatest(5, %(limit)s / (SELECT count(*) / %(full)s + 1 FROM open))
) AS head ORDER BY head.rank, head.create_time, head.id
"""
_RUNNING = """
SELECT t.runner AS trainer, t.processes, t.create_time, coalesce(p.remaining, t.expected_duration) AS remaining,
    t.priority, coalesce(t.labels ->> 'project', '') AS project, t.memory_bytes
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
        async with session(self._pool) as connection:
            cursor = await connection.execute("SELECT 1 FROM task_manager.task WHERE state = 'QUEUED' LIMIT 1")
            return await cursor.fetchone() is not None

    async def look(self, machines: Sequence[Machine], *, limit: int = WINDOW) -> QueueView:
        """The first `limit` waiting tasks of each line that a machine could take if it were empty, and what is active."""
        parameters = {
            "full": _FULL_LINES,
            "limit": limit,
            "totals": [machine.total for machine in machines],
            "memories": [machine.total_memory for machine in machines],
            "labels": [Jsonb(dict(machine.labels)) for machine in machines],
        }
        async with transaction(self._pool) as connection:
            waiting = await (await connection.execute(_WAITING, parameters)).fetchall()
            running = await (await connection.execute(_RUNNING)).fetchall()
            clock = await (await connection.execute("SELECT now() AS now")).fetchone()
        assert clock is not None, "it always answers"
        return QueueView([Waiting(**row) for row in waiting], [Running(**row) for row in running], clock["now"])

    async def claim(self, task_ids: Sequence[uuid.UUID], machine: Machine) -> list[Assignment]:
        """Claims waiting tasks for runs on a machine; those it was too late for, or that there is no room for, are left out.

        Claims for one runner follow on one another, so that several task managers never promise the same processes or memory.
        """
        async with transaction(self._pool, "queue.claim") as connection:
            if self._quota:
                # A project may hold processes of several runners.
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_QUOTA_LOCK,))
            await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_RUNNER_LOCK, machine.trainer))
            taker = Taker(self._owner, self._lease, machine, self._quota)
            claimed = await taker.take(connection, task_ids)
            found = await assignments.read_many(connection, claimed)
        for assignment in found:
            self._hub.notify(assignment.claim.task_id)
        return found
