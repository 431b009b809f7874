"""Many tasks in Postgres: pages, totals, and what has changed; used by ListTasks and WatchTasks."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping
from typing import Any

from services.common.postgres import Pool, session, transaction
from services.task_manager.domain.task import State, Task
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.filtered_totals import Total, count
from services.task_manager.rows import TASK_SELECT, task_from_row
from services.task_manager.task_conditions import conditions
from services.task_manager.text_search import asks_index
from services.task_manager.totals import TaskTotals

Position = tuple[datetime.datetime, uuid.UUID]
"""A time and the id of the task that has it."""
Place = tuple[int, uuid.UUID]
"""A transaction and the id of a task that it changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """The database's clock, and the transaction before which all have ended: what they changed can be seen."""

    time: datetime.datetime
    horizon: int


@dataclasses.dataclass(frozen=True, slots=True)
class ChangedTask:
    """A task and the transaction that last changed it."""

    task: Task
    transaction: int

    @property
    def place(self) -> Place:
        """Where it stands among all changes."""
        return self.transaction, self.task.id


class TaskListing:
    """Every method asks once, or twice for a text, and raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, wanted: TaskFilter, after: Position | None, limit: int) -> list[Task]:
        """At most `limit` tasks, newest first, from behind `after`, which is (create_time, id) of the last one seen."""
        condition, parameters = await self._conditions(wanted)
        if after:
            condition += " AND (t.create_time, t.id) < (%(after_time)s, %(after_id)s)"
            parameters |= {"after_time": after[0], "after_id": after[1]}
        query = f"{TASK_SELECT} WHERE {condition} ORDER BY t.create_time DESC, t.id DESC LIMIT %(limit)s"
        return await self._tasks(query, parameters | {"limit": limit})

    async def totals(self, wanted: TaskFilter) -> Mapping[State, Total]:
        """Tasks by state, without states that have none; exact unless a filter finds many (`filtered_totals`)."""
        if dataclasses.replace(wanted, states=()) == TaskFilter():
            kept = await TaskTotals(self._pool).by_state()
            return {state: Total(count) for state, count in kept.items() if state in (wanted.states or State)}
        async with session(self._pool) as connection:
            return await count(connection, wanted, by_index=await asks_index(connection, wanted))

    async def changed_since(self, wanted: TaskFilter, after: Position, limit: int) -> list[ChangedTask]:
        """At most `limit` tasks, in the order of their last changes, from behind `after`, which is (update_time, id)."""
        condition, parameters = conditions(wanted)
        parameters |= {"after_time": after[0], "after_id": after[1], "limit": limit}
        query = (
            f"{TASK_SELECT} WHERE {condition} AND (t.update_time, t.id) > (%(after_time)s, %(after_id)s)"
            " ORDER BY t.update_time, t.id LIMIT %(limit)s"
        )
        return await self._changed(query, parameters)

    async def changed(self, wanted: TaskFilter, after: Place, limit: int) -> list[ChangedTask]:
        """At most `limit` tasks, by the transactions that last changed them, from behind `after`."""
        condition, parameters = conditions(wanted)
        parameters |= {"after_xid": str(after[0]), "after_id": after[1], "limit": limit}
        query = (
            f"{TASK_SELECT} WHERE {condition} AND (t.change_xid, t.id) > (%(after_xid)s::xid8, %(after_id)s)"
            " ORDER BY t.change_xid, t.id LIMIT %(limit)s"
        )
        return await self._changed(query, parameters)

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

    async def moment(self) -> Moment:
        """Now."""
        query = "SELECT now() AS time, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon"
        async with transaction(self._pool) as connection:
            row = await (await connection.execute(query)).fetchone()
        assert row is not None, "it has a row"
        return Moment(**row)

    async def _conditions(self, wanted: TaskFilter) -> tuple[str, dict[str, Any]]:
        if not (wanted.text or wanted.display_name_contains):
            return conditions(wanted)
        async with transaction(self._pool) as connection:
            return conditions(wanted, by_index=await asks_index(connection, wanted))

    async def _tasks(self, query: str, parameters: dict[str, Any]) -> list[Task]:
        return [task_from_row(row) for row in await self._rows(query, parameters)]

    async def _changed(self, query: str, parameters: dict[str, Any]) -> list[ChangedTask]:
        return [ChangedTask(task_from_row(row), int(row["change_xid"])) for row in await self._rows(query, parameters)]

    async def _rows(self, query: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        async with transaction(self._pool) as connection:
            return await (await connection.execute(query.encode(), parameters)).fetchall()
