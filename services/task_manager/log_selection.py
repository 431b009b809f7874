"""Which log entries a reader wants; used by StreamLogs and ListEvents."""

from collections.abc import Callable

from services.common.errors import InvalidArgument, Violation
from services.task_manager.domain.line_pattern import LinePattern, PatternError
from tunesmith.v1 import task_event_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

MAX_CONTAINS = 1000

WantedEntry = Callable[[task_event_pb2.LogEntry], bool]


def wants_entries(given: api.LogFilter, prefix: str = "") -> WantedEntry:
    """All conditions that are set; raises InvalidArgument naming the fields, with `prefix` before them."""
    if len(given.contains) > MAX_CONTAINS:
        message = f"has {len(given.contains)} characters; at most {MAX_CONTAINS} are permitted"
        raise InvalidArgument(Violation(f"{prefix}contains", message))
    pattern = _pattern(given.pattern, f"{prefix}pattern")
    ranks, contained = frozenset(given.ranks), given.contains.casefold()
    return lambda entry: (
        entry.severity >= given.min_severity
        and (not ranks or entry.rank in ranks)
        and contained in entry.text.casefold()
        and (pattern is None or pattern.matches(entry.text))
    )


def _pattern(text: str, field: str) -> LinePattern | None:
    try:
        return LinePattern(text) if text else None
    except PatternError as error:
        raise InvalidArgument(Violation(field, str(error))) from None
