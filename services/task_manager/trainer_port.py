"""What the dispatcher needs of a trainer; `trainer_grpc` is the adapter."""

import dataclasses
import datetime
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Protocol

from services.task_manager.domain.claim import Assignment
from services.task_manager.domain.task import State
from tunesmith.v1 import task_event_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """Processes a trainer has, processes it could start now, and what its machine can do."""

    total_processes: int
    free_processes: int
    flops_per_second: float = 0.0
    """Of one process that has the machine for itself; 0 = not measured yet."""
    total_memory_bytes: int = 0
    """Of the machine; 0 = not known."""
    version: str = ""
    """Of the trainer; empty = not told."""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What tasks may ask for."""
    free_memory_bytes: int = 0
    """That runs could take now; 0 = not known."""
    device: str = ""
    """For example cpu or cuda."""
    fenced_after: datetime.timedelta | None = None
    """After so long a silence it has ended its runs by itself; None = they go on."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunEvents:
    """Some events of a run in order, numbered per run; none = a sign of life."""

    events: Sequence[task_event_pb2.TaskEvent]
    size: int = 0
    """In bytes, about."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunEnd:
    """The run is over; `error` is a serialised TaskError."""

    head_sequence: int
    """The run's last event."""
    state: State | None
    error: bytes | None
    artifact: str
    early_end: str = ""
    """Why the training made fewer steps than planned; empty when it did not."""
    size: int = 0
    """In bytes, about; next to nothing."""


RunMessage = RunEvents | RunEnd


@dataclasses.dataclass(frozen=True, slots=True)
class LiveRun:
    """A run a trainer has that is not over."""

    name: str
    task: str


class Trainer(Protocol):
    """A trainer; every method raises Unavailable when it does not answer, and ServiceError with the reason it gives."""

    async def capacity(self) -> Capacity:
        """What it can take now."""

    async def start_run(self, assignment: Assignment) -> None:
        """Starts the run, or finds it started; raises ServiceError NO_CAPACITY, STALE_EPOCH, TOO_MANY_PROCESSES..."""

    async def cancel_run(self, name: str) -> None:
        """Asks for the end of a run; raises ServiceError RUN_NOT_FOUND."""

    async def pause_run(self, name: str) -> None:
        """Asks a run to come to rest with a checkpoint; raises ServiceError RUN_NOT_FOUND."""

    async def save_checkpoint(self, name: str, label: str) -> None:
        """Asks a run for a checkpoint; raises InvalidArgument and ServiceError RUN_NOT_FOUND, RUN_NOT_RUNNING."""

    async def live_runs(self) -> Sequence[LiveRun]:
        """Every run that is not over."""

    def follow_run(self, name: str, after: int) -> AsyncGenerator[RunMessage, None]:
        """The run's messages after a cursor; ends without RunEnd when the trainer stops; raises ServiceError RUN_NOT_FOUND."""


TrainerAt = Callable[[str], Trainer]
"""The trainer at an address."""
