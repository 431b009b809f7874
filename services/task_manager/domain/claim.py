"""Who may write for a task: the claim, checked by every sink; used by the dispatcher and the repositories."""

import dataclasses
import datetime
import uuid

from services.common.errors import ServiceError
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import State


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """The fencing token of an owner: every write is compared with it and refused when epoch or owner is another."""

    task_id: uuid.UUID
    epoch: int
    owner: uuid.UUID


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """An owned task as it stands: what its follower works from."""

    claim: Claim
    state: State
    state_reason: str
    attempt: int
    runner: str
    """Address of the trainer that has the run."""
    run_name: str
    run_sequence: int
    """The last event of the run that is stored."""
    processes: int
    spec: bytes
    effective_hyperparameters: bytes
    progress: Progress | None
    first_attempt: int = 0
    """Checkpoints of attempts before this one are not used."""
    max_attempts: int | None = None
    """Runs that may be lost until the task fails; None = what the server is set to."""
    kind: Kind = Kind.FINE_TUNING
    memory_bytes: int = 0
    """That the run is expected to need at its peak; 0 = not known."""
    fenced_after: datetime.timedelta | None = None
    """After so long a silence of the trainer it has ended the run by itself; None = the run goes on."""


class StaleClaim(ServiceError):
    """Somebody else owns the task, or nobody needs to any more: stop quietly."""

    def __init__(self, claim: Claim) -> None:
        super().__init__("STALE_EPOCH", f"tasks/{claim.task_id} is not owned under epoch {claim.epoch} by this process any more")


class SequenceGap(ServiceError):
    """Events were left out; `expected` is the number the log needs next."""

    def __init__(self, expected: int, given: int) -> None:
        message = f"the run's event {given} was given, {expected} is the next"
        super().__init__("SEQUENCE_GAP", message, metadata={"expected_sequence": str(expected)})
        self.expected = expected
