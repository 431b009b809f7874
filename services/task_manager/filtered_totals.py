"""How many tasks of each state a filter finds, as far as the time of a page allows to tell; used by the listing.

Totals of all tasks are kept, those of filters are not: there is no end of filters. Counting what many tasks fit reads them all,
a quarter of a second for one of 20 in a million. So counting ends with the first thousand, or early when those take long to
find. Then the newest tasks of each state are looked at, which takes the same time whatever is asked for: states with no more
tasks than those are still exact.
"""

import dataclasses
from collections.abc import Mapping

from psycopg.errors import QueryCanceled

from services.common.postgres import Connection
from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.task_conditions import conditions

_PATIENCE_MS = 15
_COUNTED = 1_000
_LOOKED_AT = 1_000
_COUNT = """
SELECT found.state, count(*) AS count, sum(count(*)) OVER () >= %(most)s AS at_least
FROM (SELECT t.state FROM task_manager.task t WHERE {condition} LIMIT %(most)s) AS found GROUP BY found.state ORDER BY found.state
"""
# One processor for so long, and no more: a page is not worth the others.
_BRIEFLY = "SELECT set_config('statement_timeout', %(patience)s, true), set_config('max_parallel_workers_per_gather', '0', true)"
_LOOK = """
SELECT one.state, count(*) FILTER (WHERE {condition}) AS count, count(*) >= %(most)s AS at_least
FROM unnest(%(counted)s::task_manager.task_state[]) AS one (state), LATERAL (
    SELECT * FROM task_manager.task t WHERE t.state BETWEEN one.state AND one.state
    ORDER BY t.state, t.create_time DESC, t.id DESC LIMIT %(most)s
) AS t GROUP BY one.state ORDER BY one.state
"""
# In the order of the index by state. Postgres does not know that the tasks of a state are many, and would sort them all, or come
# to the first of them through all others; hence a state is a range, too, of which only that index has the order.
_IN_ORDER = "SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)"


@dataclasses.dataclass(frozen=True, slots=True)
class Total:
    """Tasks in a state: `count`, or that many and perhaps more."""

    count: int
    at_least: bool = False


async def count(connection: Connection, wanted: TaskFilter, *, by_index: bool) -> Mapping[State, Total]:
    """Tasks by state, without those that surely have none. `by_index`: as in `conditions`."""
    first = await _first(connection, wanted, by_index=by_index)
    if first is not None and not any(total.at_least for total in first.values()):
        return first
    newest, known = await _newest(connection, wanted), first or {}
    return {
        state: dataclasses.replace(total, count=max(total.count, known[state].count)) if state in known else total
        for state, total in newest.items()
    }


async def _first(connection: Connection, wanted: TaskFilter, *, by_index: bool) -> Mapping[State, Total] | None:
    """The first tasks that are found, whichever they are; None when that takes too long."""
    try:
        async with connection.transaction():
            await connection.execute(_BRIEFLY, {"patience": f"{_PATIENCE_MS}ms"})
            condition, parameters = conditions(wanted, by_index=by_index)
            return await _totals(connection, _COUNT, condition, parameters | {"most": _COUNTED})
    except QueryCanceled:
        return None


async def _newest(connection: Connection, wanted: TaskFilter) -> Mapping[State, Total]:
    """Those among the newest tasks of each state."""
    condition, parameters = conditions(wanted)
    parameters |= {"counted": [state.value for state in wanted.states or State], "most": _LOOKED_AT}
    async with connection.transaction():
        await connection.execute(_IN_ORDER)
        return await _totals(connection, _LOOK, condition, parameters)


async def _totals(connection: Connection, query: str, condition: str, parameters: Mapping[str, object]) -> Mapping[State, Total]:
    rows = await (await connection.execute(query.format(condition=condition).encode(), parameters)).fetchall()
    totals = {State(row["state"]): Total(row["count"], row["at_least"]) for row in rows}
    return {state: total for state, total in totals.items() if total != Total(0)}
