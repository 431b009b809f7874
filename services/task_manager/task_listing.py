"""Many tasks in Postgres: pages, totals, and what has changed; used by ListTasks and WatchTasks."""

import datetime
import uuid
from collections.abc import Mapping
from typing import Any

from services.common.postgres import Pool, transaction
from services.task_manager.domain.task import State, Task
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.rows import TASK_SELECT, task_from_row
from services.task_manager.task_conditions import conditions

Position = tuple[datetime.datetime, uuid.UUID]
"""A time and the id of the task that has it."""


class TaskListing:
    """Every method is one transaction and raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, wanted: TaskFilter, after: Position | None, limit: int) -> list[Task]:
        """At most `limit` tasks, newest first, from behind `after`, which is (create_time, id) of the last one seen."""
        condition, parameters = conditions(wanted)
        if after:
            condition += " AND (t.create_time, t.id) < (%(after_time)s, %(after_id)s)"
            parameters |= {"after_time": after[0], "after_id": after[1]}
        query = f"{TASK_SELECT} WHERE {condition} ORDER BY t.create_time DESC, t.id DESC LIMIT %(limit)s"
        return await self._tasks(query, parameters | {"limit": limit})

    async def totals(self, wanted: TaskFilter) -> Mapping[State, int]:
        """Tasks by state, without states that have none."""
        condition, parameters = conditions(wanted)
        query = f"SELECT t.state, count(*) AS total FROM task_manager.task t WHERE {condition} GROUP BY t.state ORDER BY t.state"  # noqa: S608
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(query.encode(), parameters)).fetchall()
        return {State(row["state"]): row["total"] for row in rows}

    async def changed(self, wanted: TaskFilter, after: Position, limit: int) -> list[Task]:
        """At most `limit` tasks, in the order of their last changes, from behind `after`, which is (update_time, id)."""
        condition, parameters = conditions(wanted)
        parameters |= {"after_time": after[0], "after_id": after[1], "limit": limit}
        query = (
            f"{TASK_SELECT} WHERE {condition} AND (t.update_time, t.id) > (%(after_time)s, %(after_id)s)"
            " ORDER BY t.update_time, t.id LIMIT %(limit)s"
        )
        return await self._tasks(query, parameters)

    async def queue_position(self, task_id: uuid.UUID) -> int:
        """Place among the waiting tasks, from 1; 0 = it does not wait."""
        query = (
            "SELECT count(*) AS position FROM task_manager.task t, task_manager.task mine WHERE mine.id = %(id)s"
            " AND mine.state = 'QUEUED' AND t.state = 'QUEUED'"
            " AND (-t.priority, t.create_time, t.id) <= (-mine.priority, mine.create_time, mine.id)"
        )
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(query, {"id": task_id})).fetchone()
        assert row is not None, "count(*) has a row"
        position: int = row["position"]
        return position

    async def now(self) -> datetime.datetime:
        """The database's clock, which times every change."""
        async with transaction(self._pool) as connection:
            row = await (await connection.execute("SELECT now() AS time")).fetchone()
        assert row is not None, "SELECT now() has a row"
        time: datetime.datetime = row["time"]
        return time

    async def _tasks(self, query: str, parameters: dict[str, Any]) -> list[Task]:
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(query.encode(), parameters)).fetchall()
        return [task_from_row(row) for row in rows]
