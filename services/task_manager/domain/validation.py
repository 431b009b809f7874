"""Everything about a new task that can be checked without asking anybody; all that is wrong is told at once."""

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, Self, TypeVar

from services.common.errors import InvalidArgument, Violation
from services.common.labels import MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_LABELS
from services.task_manager.domain.task import TaskUpdate

MAX_DISPLAY_NAME = 128
MAX_DESCRIPTION = 2000
MAX_CREATOR = 128
MAX_REASON = 500
MAX_PRIORITY = 100
MAX_ATTEMPTS = 100


class Ask(Protocol):
    """What a task of one kind asks for."""

    def violations(self) -> Iterator[Violation]:
        """Everything that is wrong with it."""

    def with_full_names(self) -> Self:
        """The same, bare ids made resource names."""


A = TypeVar("A", bound=Ask)


@dataclasses.dataclass(frozen=True, slots=True)
class Draft(Generic[A]):
    """A task as a caller sent it; `ask` is None when the kind of work is missing or not known."""

    display_name: str
    description: str
    labels: Mapping[str, str]
    ask: A | None
    priority: int = 0
    not_before: datetime.datetime | None = None
    max_attempts: int | None = None
    """None = what the server is set to."""
    runner_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Labels that a runner must have."""
    creator: str = ""


def check(draft: Draft[A], *, named: bool, kinds: str = "fine_tuning") -> A:
    """The ask, with full resource names; raises InvalidArgument with every violation.

    `named`: a display name is required. `kinds`: what an ask may be, for the hint.
    """
    found = list(_violations(draft, named))
    if draft.ask is None:
        raise InvalidArgument(*found, Violation("task.spec.kind", f"is required; set {kinds}"))
    if found := [*found, *draft.ask.violations()]:
        raise InvalidArgument(*found)
    return draft.ask.with_full_names()


def check_update(update: TaskUpdate) -> None:
    """Raises InvalidArgument with every violation of what is to be changed."""
    found = [
        *(
            text_violations("task.display_name", update.display_name, 1, MAX_DISPLAY_NAME)
            if update.display_name is not None
            else ()
        ),
        *(text_violations("task.description", update.description, 0, MAX_DESCRIPTION) if update.description is not None else ()),
        *label_violations("task.labels", update.labels or {}),
        *_priority(update.priority or 0),
    ]
    if found:
        raise InvalidArgument(*found)


def check_request_id(request_id: str) -> uuid.UUID | None:
    """The UUID, None when empty; raises InvalidArgument."""
    if not request_id:
        return None
    try:
        return uuid.UUID(request_id)
    except ValueError:
        raise InvalidArgument(Violation("request_id", f"{request_id[:80]!r} is not a UUID")) from None


def check_reason(reason: str) -> None:
    """Raises InvalidArgument when the reason of a cancelling is too long."""
    found = list(text_violations("reason", reason, 0, MAX_REASON))
    if found:
        raise InvalidArgument(*found)


def name_violations(parse: Callable[[], object]) -> Iterator[Violation]:
    """What `parse` refuses."""
    try:
        parse()
    except InvalidArgument as error:
        yield from error.violations


def _violations(draft: Draft[A], named: bool) -> Iterator[Violation]:
    yield from text_violations("task.display_name", draft.display_name, 1 if named else 0, MAX_DISPLAY_NAME)
    yield from text_violations("task.description", draft.description, 0, MAX_DESCRIPTION)
    yield from text_violations("task.creator", draft.creator, 0, MAX_CREATOR)
    yield from label_violations("task.labels", draft.labels)
    yield from label_violations("task.spec.runner_labels", draft.runner_labels)
    yield from _priority(draft.priority)
    if draft.max_attempts is not None and not 1 <= draft.max_attempts <= MAX_ATTEMPTS:
        yield Violation("task.max_attempts", f"{draft.max_attempts} is not between 1 and {MAX_ATTEMPTS}; 0 = the default")


def text_violations(field: str, text: str, low: int, high: int) -> Iterator[Violation]:
    """What is wrong with a text of `low` to `high` characters."""
    if len(text) < low or (low and not text.strip()):
        yield Violation(field, "is required")
    if len(text) > high:
        yield Violation(field, f"has {len(text)} characters; at most {high} are permitted")
    if "\0" in text:
        yield Violation(field, "contains the character NUL")


def label_violations(field: str, labels: Mapping[str, str]) -> Iterator[Violation]:
    """What is wrong with free key-value pairs."""
    if len(labels) > MAX_LABELS:
        yield Violation(field, f"has {len(labels)} entries; at most {MAX_LABELS} are permitted")
    for key, value in sorted(labels.items()):
        yield from text_violations(f"{field}[{key[:80]!r}]", value, 0, MAX_LABEL_VALUE)
        if not 1 <= len(key) <= MAX_LABEL_KEY or "\0" in key:
            yield Violation(f"{field}[{key[:80]!r}]", f"keys have 1 to {MAX_LABEL_KEY} characters")


def _priority(priority: int) -> Iterator[Violation]:
    if abs(priority) > MAX_PRIORITY:
        yield Violation("task.priority", f"{priority} is not between -{MAX_PRIORITY} and {MAX_PRIORITY}")
