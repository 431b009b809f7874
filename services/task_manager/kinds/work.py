"""What creating, planning and retrying a task need of its kind; every module of this package has one of these."""

import dataclasses
import datetime
import uuid
from collections.abc import Callable
from typing import Protocol

from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.domain.validation import Ask
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_spec_pb2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A task that can work: what is recorded of it besides what people call it."""

    kind: Kind
    spec: bytes
    """A TaskSpec with every name resolved, serialised."""
    effective_hyperparameters: task_spec_pb2.Hyperparameters = dataclasses.field(default_factory=task_spec_pb2.Hyperparameters)
    """Empty unless the kind has hyperparameters."""
    processes: int = 1
    datasets: tuple[uuid.UUID, ...] = ()
    """What it reads."""
    base_model: str = ""
    """Full resource name; empty = none, or several."""
    method: str = ""
    tuning: str = ""
    note: str = ""
    """What the first event adds to the fact that the task was created."""
    origin: ArtifactFacts | None = None
    """What it is made from."""
    expected_duration: datetime.timedelta | None = None
    memory_bytes: int = 0
    """That its runs will need at their peak; 0 = not known."""


class Work(Ask, Protocol):
    """The ask of one task, and whom to ask about it. Nothing is asked before `resolve` and `plan`."""

    def spec(self) -> bytes:
        """As it is stored but for names that only others can resolve; the same ask always gives the same bytes."""

    async def resolve(self, *, patience: float, continued: Hyperparameters | None = None) -> Resolved:
        """Waits `patience` seconds for tokens to be counted.

        `continued` are the numbers of the checkpoint a retry goes on from; what the task once started from is not needed then.

        Raises InvalidArgument with what cannot work, NotFound, Unavailable.
        """

    async def plan(self, *, patience: float) -> api.TaskPlan:
        """What the task would do; raises as `resolve` does."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkKind:
    """A kind that this server runs. `read` does not check anything."""

    kind: Kind
    read: Callable[[task_spec_pb2.TaskSpec], Work]
