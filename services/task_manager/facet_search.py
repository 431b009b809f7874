"""Pages of what no index has in order, such as several conditions together; used by the listing.

Of two conditions that many tasks fit each, the newest that fit both may be anywhere: at the beginning of either, or behind a
million others. So the newest tasks are looked at first, which fills most pages. When it does not, the index of all facets
(`023_facets.sql`) says of one day after the other, newest first, which tasks fit everything.
"""

from typing import Any

from psycopg.rows import DictRow

from services.common.postgres import Connection
from services.task_manager.domain.facets import facets, scarce_states
from services.task_manager.domain.task_filter import Position, TaskFilter
from services.task_manager.rows import TASK_SELECT
from services.task_manager.task_conditions import conditions

# A page that one in so many tasks fits is filled by the newest tasks.
_ONE_IN = 20
_WALK = """
{select} WHERE t.id = ANY(ARRAY(
    SELECT t.id FROM (
        SELECT * FROM task_manager.task t WHERE {behind} ORDER BY t.create_time DESC, t.id DESC LIMIT %(looked_at)s
    ) AS t WHERE {condition} ORDER BY t.create_time DESC, t.id DESC LIMIT %(limit)s
)) ORDER BY t.create_time DESC, t.id DESC
"""
# Each day by itself, and none after the page is full. What the index says is compared last, one task after the other: OFFSET 0
# keeps Postgres from any other order, for which it would take conditions for independent of each other.
_SEARCH = """
{select} WHERE t.id = ANY(ARRAY(
    SELECT found.id FROM (
        SELECT day, {keys} FROM generate_series(
            task_manager.task_day(greatest(%(from_create_time)s::timestamptz, (SELECT min(create_time) FROM task_manager.task))),
            task_manager.task_day(least(
                %(after_time)s::timestamptz, %(before_create_time)s::timestamptz, (SELECT max(create_time) FROM task_manager.task)
            ))
        ) AS days (day) ORDER BY day DESC
    ) AS one, LATERAL (
        SELECT t.id, t.create_time FROM (
            SELECT f.task_id, f.create_time FROM task_manager.task_facet f WHERE {has_keys} AND {facet_behind}
            ORDER BY f.create_time DESC, f.task_id DESC
        ) AS f, LATERAL (SELECT * FROM task_manager.task t WHERE t.id = f.task_id OFFSET 0) AS t
        WHERE {condition} ORDER BY f.create_time DESC, f.task_id DESC LIMIT %(limit)s
    ) AS found ORDER BY one.day DESC, found.create_time DESC, found.id DESC LIMIT %(limit)s
) || ARRAY(
    SELECT t.id FROM (
        SELECT * FROM task_manager.task t WHERE t.state = ANY(%(scarce)s::task_manager.task_state[]) AND {behind} OFFSET 0
    ) AS t WHERE {condition} ORDER BY t.create_time DESC, t.id DESC LIMIT %(limit)s
)) ORDER BY t.create_time DESC, t.id DESC LIMIT %(limit)s
"""
_EVERY = "every"
_PARTS = " || task_manager.rare_parts(%(text)s) || task_manager.rare_parts(%(display_name_contains)s)"
_KEYS = (
    "ARRAY(SELECT task_manager.day_key(number, day) FROM unnest("
    "ARRAY(SELECT task_manager.facet_number(name) FROM unnest(%({group})s::text[]) AS names (name)){parts}"
    ") AS numbers (number)) AS {group}"
)
_HAS_KEYS = "task_manager.task_keys(f.day, f.words, f.facets) {operator} one.{group}"
# What a search costs is estimated far too high, which would call for a compiler and for the help of other processes.
_PLAINLY = "SELECT set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"


async def page(connection: Connection, wanted: TaskFilter, after: Position | None, limit: int) -> list[DictRow]:
    """Rows of TASK_SELECT, at most `limit`, newest first, from behind `after`. To be called inside a transaction."""
    newest = await _rows(connection, *_walk(wanted, after, limit))
    if len(newest) == limit:
        return newest
    await connection.execute(_PLAINLY)
    return await _rows(connection, *_search(wanted, after, limit))


def _walk(wanted: TaskFilter, after: Position | None, limit: int) -> tuple[str, dict[str, Any]]:
    condition, parameters = conditions(wanted)
    query = _WALK.format(select=TASK_SELECT, condition=condition, behind=_behind(wanted, after, "t.create_time", "t.id"))
    return query, parameters | _place(wanted, after) | {"limit": limit, "looked_at": _ONE_IN * limit}


def _search(wanted: TaskFilter, after: Position | None, limit: int) -> tuple[str, dict[str, Any]]:
    condition, parameters = conditions(wanted)
    groups = _groups(wanted)
    query = _SEARCH.format(
        select=TASK_SELECT,
        condition=condition,
        keys=", ".join(_KEYS.format(group=group, parts=_PARTS if group == _EVERY else "") for group in groups),
        has_keys=" AND ".join(_HAS_KEYS.format(group=group, operator="@>" if group == _EVERY else "&&") for group in groups),
        behind=_behind(wanted, after, "t.create_time", "t.id"),
        facet_behind=_behind(wanted, after, "f.create_time", "f.task_id"),
    )
    parameters |= {"text": wanted.text, "display_name_contains": wanted.display_name_contains, "limit": limit}
    scarce = [state.value for state in scarce_states(wanted)]
    return query, parameters | groups | _place(wanted, after) | {"scarce": scarce}


def _groups(wanted: TaskFilter) -> dict[str, list[str]]:
    """Facets of which a task has every one, beside the parts of texts, and lists of which it has one each."""
    found = facets(wanted)
    every = [names[0] for names in found if len(names) == 1]
    groups = {f"any_{index}": names for index, names in enumerate(found) if len(names) > 1}
    return groups | {_EVERY: every} if every or wanted.text or wanted.display_name_contains else groups


def _behind(wanted: TaskFilter, after: Position | None, time: str, task_id: str) -> str:
    parts = [f"({time}, {task_id}) < (%(after_time)s, %(after_id)s)"] if after else []
    parts += [f"{time} < %(before_create_time)s"] if wanted.before_create_time else []
    return " AND ".join(parts) or "true"


def _place(wanted: TaskFilter, after: Position | None) -> dict[str, Any]:
    time, task_id = after or (None, None)
    times = {"from_create_time": wanted.from_create_time, "before_create_time": wanted.before_create_time}
    return {"after_time": time, "after_id": task_id, **times}


async def _rows(connection: Connection, query: str, parameters: dict[str, Any]) -> list[DictRow]:
    return await (await connection.execute(query.encode(), parameters)).fetchall()
