"""A filter of tasks as SQL; used by the repository. The task's row is called `t`."""

import dataclasses
from typing import Any

from psycopg.types.json import Jsonb

from services.task_manager.domain.task_filter import TaskFilter

_CONDITIONS = {
    "states": "t.state = ANY(%(states)s::task_manager.task_state[])",
    "display_name_contains": "position(lower(%(display_name_contains)s) IN lower(t.display_name)) > 0",
    "text": "(position(lower(%(text)s) IN lower(t.display_name)) > 0 OR position(lower(%(text)s) IN lower(t.description)) > 0)",
    "dataset": "t.datasets @> ARRAY[%(dataset)s]::uuid[]",
    "origin_artifacts": "t.origin_artifact <> '' AND t.origin_artifact = ANY(%(origin_artifacts)s)",
    "base_model": "t.base_model = %(base_model)s",
    "methods": "t.method = ANY(%(methods)s)",
    "tunings": "t.tuning = ANY(%(tunings)s)",
    "kinds": "t.kind = ANY(%(kinds)s)",
    "labels": "t.labels @> %(labels)s",
    "ids": "t.id BETWEEN (%(ids)s::uuid[])[1] AND (%(ids)s::uuid[])[2]",
    "creator": "t.creator <> '' AND t.creator = %(creator)s",
    "from_create_time": "t.create_time >= %(from_create_time)s",
    "before_create_time": "t.create_time < %(before_create_time)s",
}
# Beside the conditions themselves: what the index finds has all parts of the text, in any order. An array, since it is looked up
# first then: Postgres takes a part that it does not know for common, and would rather look at all tasks, newest first.
_LOOKUP = (
    "t.id = ANY(ARRAY(SELECT task_id FROM task_manager.task_text"
    " WHERE task_manager.text_parts(words) @> task_manager.text_lookup(%({name})s)))"
)
_LOOKUPS = {name: _LOOKUP.format(name=name) for name in ("display_name_contains", "text")}
_SINGLE = {
    "states": "t.state = %(states)s::task_manager.task_state",
    "methods": "t.method = %(methods)s",
    "kinds": "t.kind = %(kinds)s",
}


def conditions(wanted: TaskFilter, *, by_index: bool = False) -> tuple[str, dict[str, Any]]:
    """The condition and its parameters; no user text is in the SQL. `by_index`: texts are looked up before they are compared."""
    parameters = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted)}
    parameters |= {
        "states": [state.value for state in wanted.states],
        "origin_artifacts": list(wanted.origin_artifacts),
        "methods": list(wanted.methods),
        "tunings": list(wanted.tunings),
        "kinds": list(wanted.kinds),
        "ids": list(wanted.ids or ()),
        "labels": Jsonb(dict(wanted.labels)) if wanted.labels else None,
    }
    given = {name: value for name, value in parameters.items() if value}
    # An index gives the order of one value, not of several.
    single = {name: value[0] for name, value in given.items() if name in _SINGLE and len(value) == 1}
    parts = [_SINGLE[name] if name in single else _CONDITIONS[name] for name in given]
    parts += [lookup for name, lookup in _LOOKUPS.items() if by_index and name in given]
    return " AND ".join(parts) or "true", given | single
