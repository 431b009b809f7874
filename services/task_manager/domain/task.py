"""The task as a value; used by every module of the service."""

import dataclasses
import datetime
import enum
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from services.task_manager.domain.kind import Kind
from services.task_manager.domain.progress import Progress


class State(enum.Enum):
    """Place in the life cycle; names and values equal those of Task.State and of the database's enum."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self in TERMINAL

    @property
    def is_active(self) -> bool:
        """Whether a run may exist, so that one task manager has to own the task."""
        return self in ACTIVE


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
ACTIVE = frozenset({State.STARTING, State.RUNNING, State.PAUSING, State.CANCELLING})


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One task as stored. Messages that only travel through are kept in their serialised form and never looked into here."""

    id: uuid.UUID
    display_name: str
    description: str
    labels: Mapping[str, str]
    spec: bytes
    """A TaskSpec, serialised; the same bytes reach the runner."""
    effective_hyperparameters: bytes
    """A Hyperparameters message, serialised."""
    state: State
    state_reason: str
    attempt: int
    epoch: int
    head_sequence: int
    error: bytes | None
    """A TaskError, serialised; set in state FAILED."""
    artifact: str
    create_time: datetime.datetime
    start_time: datetime.datetime | None
    end_time: datetime.datetime | None
    update_time: datetime.datetime
    progress: Progress | None
    priority: int = 0
    origin_artifact: str = ""
    """Whose weights it starts from; empty = those of the base model."""
    origin_task: uuid.UUID | None = None
    """The task that made that artifact."""
    origin_step: int = 0
    cloned_from: uuid.UUID | None = None
    overrides: bytes = b""
    """A Hyperparameters message, serialised: what retries have changed about the spec's."""
    first_attempt: int = 0
    """Checkpoints of attempts before this one are not used."""
    processes: int = 1
    """Processes its runs need."""
    not_before: datetime.datetime | None = None
    """Not started earlier."""
    max_attempts: int | None = None
    """Runs that may be lost until it fails; None = what the server is set to."""
    expected_start_time: datetime.datetime | None = None
    """Never stored; told when it is read."""
    kind: Kind = Kind.FINE_TUNING
    memory_bytes: int = 0
    """That its runs are expected to need at their peak; 0 = not known."""
    runner_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Labels that a runner must have to take it."""
    creator: str = ""
    """Who asked for it, in the caller's words; empty = not told."""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"tasks/{self.id}"


@dataclasses.dataclass(frozen=True, slots=True)
class NewTask:
    """What it takes to record a task."""

    id: uuid.UUID
    display_name: str
    description: str
    labels: Mapping[str, str]
    spec: bytes
    effective_hyperparameters: bytes
    processes: int
    """Processes its runs need."""
    datasets: Sequence[uuid.UUID]
    """What it trains and validates on."""
    base_model: str
    """Full resource name."""
    method: str
    """Name of a value of FineTuning.Method."""
    tuning: str
    """Name of a value of FineTuning.Tuning."""
    note: str
    """What its first event adds to the fact that it was created; may be empty."""
    request_id: uuid.UUID | None
    request_digest: bytes
    """Digest of what was asked for; tells a repeat from another request under the same id."""
    priority: int = 0
    """Higher ones are started first."""
    origin_artifact: str = ""
    origin_task: uuid.UUID | None = None
    origin_step: int = 0
    cloned_from: uuid.UUID | None = None
    not_before: datetime.datetime | None = None
    """Not started earlier."""
    max_attempts: int | None = None
    """Runs that may be lost until it fails; None = what the server is set to."""
    expected_duration: datetime.timedelta | None = None
    """Of its work; None = not known."""
    kind: Kind = Kind.FINE_TUNING
    memory_bytes: int = 0
    runner_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    creator: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """A wish to try an ended task again; None = stays."""

    task_id: uuid.UUID
    request_id: uuid.UUID | None
    request_digest: bytes
    from_start: bool
    changes: bytes = b""
    """A Hyperparameters message, serialised, as are the next two."""
    overrides: bytes | None = None
    effective_hyperparameters: bytes | None = None
    processes: int | None = None
    memory_bytes: int | None = None
    expected_duration: datetime.timedelta | None = None

    def parameters(self) -> dict[str, Any]:
        """By name, for a query."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class TaskUpdate:
    """What people may change about a task; None = stays."""

    display_name: str | None = None
    description: str | None = None
    labels: Mapping[str, str] | None = None
    priority: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """A move to another state and what is recorded with it."""

    to: State
    reason: str
    """One sentence, never empty."""
    error: bytes | None = None
    artifact: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Transition:
    """A move that was made."""

    before: State | None
    """None = it was created."""
    after: State
    reason: str
    attempt: int
    time: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a task and its events stand at one moment."""

    state: State
    epoch: int
    first_available_sequence: int
    head_sequence: int
    error: bytes | None
    artifact: str
