"""What tasks are found by together: facets such as `model baseModels/x`, as the database names them; used by the search."""

from collections.abc import Sequence

from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter

_LIVE = "LIVE"
_SHORTEST_TEXT = 3


def facets(wanted: TaskFilter) -> list[list[str]]:
    """Of each list a task that is meant has at least one. Named as by `task_facets` of the database, which says `LIVE` of all
    states but the last ones; texts are not among them.
    """
    several = {"state": _states(wanted.states), "method": wanted.methods, "tuning": wanted.tunings, "kind": wanted.kinds}
    single = {"base_model": wanted.base_model, "creator": wanted.creator, "dataset": wanted.dataset}
    return [
        *([f"{name} {value}" for value in values] for name, values in several.items() if values),
        *([f"{name} {value}"] for name, value in single.items() if value),
        *([f"label {key}={value}"] for key, value in wanted.labels.items()),
    ]


def is_several(wanted: TaskFilter) -> bool:
    """Whether no index has the tasks that are meant in order: there are several conditions or values, or one without an index.

    Not for texts that are too short to have parts among the facets, and not for states that few tasks are in at a time: those are
    soon read.
    """
    texts = [text for text in (wanted.text, wanted.display_name_contains) if text]
    if any(len(text) < _SHORTEST_TEXT for text in texts) or _are_few(wanted.states):
        return False
    found = facets(wanted)
    return len(found) + len(texts) > 1 or any(len(names) > 1 for names in found) or bool(wanted.tunings)


def _states(states: Sequence[State]) -> list[str]:
    return sorted({state.value if state.is_terminal else _LIVE for state in states})


def _are_few(states: Sequence[State]) -> bool:
    return bool(states) and not any(state.is_terminal or state is State.QUEUED for state in states)
