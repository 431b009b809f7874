"""The words of a run: its name, what was asked for, what is wished of it, and how it ended; used by every module of the face."""

import dataclasses
import enum
import re
import uuid
from collections.abc import Mapping
from typing import Any, Protocol, Self

from services.common.catalogue import CATALOGUE, ErrorClass
from services.common.errors import InvalidArgument, ServiceError, Violation

_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([1-9][0-9]{0,8})")
_LONGEST_QUOTE = 80


class State(enum.Enum):
    """Place in the life cycle of a run; values are the names of Task.State."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclasses.dataclass(frozen=True, slots=True)
class RunName:
    """`runs/{task uuid}-{attempt}`; made only from texts of exactly that form, so its `id` is safe as a directory's name."""

    task_id: uuid.UUID
    attempt: int

    @classmethod
    def parse(cls, name: str, field: str = "name") -> Self:
        """Raises InvalidArgument naming `field`."""
        match = _NAME.fullmatch(name.removeprefix("runs/")) if name.startswith("runs/") else None
        if match is None:
            quoted = repr(name[:_LONGEST_QUOTE])
            description = f"{quoted} is not a name of the form runs/{{task uuid}}-{{attempt}}"
            raise InvalidArgument(Violation(field, description), reason="INVALID_NAME")
        return cls(uuid.UUID(match[1]), int(match[2]))

    @property
    def id(self) -> str:
        """Without the collection."""
        return f"{self.task_id}-{self.attempt}"

    def __str__(self) -> str:
        return f"runs/{self.id}"


class Ask(Protocol):
    """What a run of one kind works on."""

    @property
    def num_processes(self) -> int:
        """Ranks it needs."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What StartRun asked for."""

    name: RunName
    epoch: int
    kind: str
    """The field of TaskSpec that is set, for example fine_tuning."""
    ask: Ask
    """Of that kind."""
    create_time: float
    document: str
    """The whole ask as proto JSON of Run; the domain does not look into it."""
    first_attempt: int = 0
    """Checkpoints of attempts before this one are not used."""

    @property
    def num_processes(self) -> int:
        """Ranks it needs."""
        return self.ask.num_processes


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed, as TaskError says it."""

    reason: str
    message: str
    error_class: str
    """A value of ErrorClass."""
    hint: str
    step: int = 0
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    log_tail: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """The same failure as data."""
        return cls(error.reason, error.message, error.error_class.value, error.hint, metadata=error.metadata)

    @classmethod
    def because(cls, reason: str, message: str, **metadata: str) -> Self:
        """A failure of the catalogue."""
        return cls.of(ServiceError(reason, message, metadata=metadata))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """From a journal; what the writer left out comes from the catalogue."""
        entry = CATALOGUE.get(record.get("reason", ""), CATALOGUE["TRAINING_FAILED"])
        classes = {error_class.value for error_class in ErrorClass}
        given = record.get("error_class")
        return cls(
            reason=record.get("reason") or "TRAINING_FAILED",
            message=record.get("message") or "the training process failed without saying why",
            error_class=given if given in classes else entry.error_class.value,
            hint=record.get("hint") or entry.hint,
            step=record.get("step", 0),
            metadata=record.get("metadata") or {},
            log_tail=tuple(record.get("log_tail") or ()),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """That a run shall end: cancelled by its user, or stopped with a failure by the trainer."""

    stop: Failure | None = None
    """None = cancelled."""
