"""How many tasks are in each state, kept by the database with every move; read by ListTasks, tidied by the dispatcher."""

from collections.abc import Mapping

from services.common.postgres import Pool, transaction
from services.task_manager.domain.task import State


class TaskTotals:
    """Raises Unavailable when Postgres is away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def by_state(self) -> Mapping[State, int]:
        """Without states that no task is in."""
        query = "SELECT state, sum(delta)::bigint AS total FROM task_manager.task_total GROUP BY state ORDER BY state"
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(query)).fetchall()
        return {State(row["state"]): row["total"] for row in rows if row["total"]}

    async def compact(self) -> None:
        """Makes one row a state of what moves have added; the totals stay what they are, whoever else does the same."""
        async with transaction(self._pool) as connection:
            await connection.execute(
                "WITH gone AS (DELETE FROM task_manager.task_total RETURNING state, delta)"
                " INSERT INTO task_manager.task_total (state, delta) SELECT state, sum(delta) FROM gone GROUP BY state"
            )
