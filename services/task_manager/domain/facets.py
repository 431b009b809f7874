"""What tasks are found by together: facets such as `model baseModels/x`, as the database names them; used by the search."""

from services.task_manager.domain.task import State
from services.task_manager.domain.task_filter import TaskFilter

_LIVE = "LIVE"
_SHORTEST_TEXT = 3


def facets(wanted: TaskFilter) -> list[list[str]]:
    """Of each list a task that is meant has at least one, unless its state is among `scarce_states`. Named as by `task_facets` of
    the database, which says `LIVE` of all states but the last ones; texts are not among them.
    """
    several = {"state": _states(wanted), "method": wanted.methods, "tuning": wanted.tunings, "kind": wanted.kinds}
    single = {"base_model": wanted.base_model, "creator": wanted.creator, "dataset": wanted.dataset}
    return [
        *([f"{name} {value}" for value in values] for name, values in several.items() if values),
        *([f"{name} {value}"] for name, value in single.items() if value),
        *([f"label {key}={value}"] for key, value in wanted.labels.items()),
    ]


def scarce_states(wanted: TaskFilter) -> list[State]:
    """Those that few tasks are in at a time, which are soon read; none beside waiting tasks, which are many and `LIVE`, too."""
    return [] if State.QUEUED in wanted.states else [state for state in wanted.states if not state.is_terminal]


def needs_search(wanted: TaskFilter) -> bool:
    """Whether no index has the tasks that are meant in order: there are several conditions or values, or a text, a label, a
    tuning or a dataset.

    Not for texts that are too short to have parts among the facets, and not when all states are scarce.
    """
    texts = [text for text in (wanted.text, wanted.display_name_contains) if text]
    if any(len(text) < _SHORTEST_TEXT for text in texts) or (wanted.states and len(scarce_states(wanted)) == len(wanted.states)):
        return False
    found = facets(wanted)
    return (
        len(found) > 1
        or any(len(names) > 1 for names in found)
        or bool(texts or wanted.tunings or wanted.labels or wanted.dataset)
    )


def _states(wanted: TaskFilter) -> list[str]:
    return sorted({state.value if state.is_terminal else _LIVE for state in wanted.states if state not in scarce_states(wanted)})
