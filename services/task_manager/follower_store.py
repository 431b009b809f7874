"""What the follower of a run needs of the store; ClaimRepository and EventLog are it."""

import datetime
from collections.abc import Sequence
from typing import Protocol

from services.task_manager.domain.claim import Assignment, Claim
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import Change
from services.task_manager.domain.throughput import RunSpeed
from tunesmith.v1 import task_event_pb2


class Claims(Protocol):
    """ClaimRepository, as far as a follower needs it."""

    async def refresh(self, claim: Claim) -> Assignment:
        """See ClaimRepository."""

    async def explain(self, claim: Claim, reason: str) -> None:
        """See ClaimRepository."""

    async def finish(self, claim: Claim, change: Change, speed: RunSpeed | None = None, checkpoints: Sequence[str] = ()) -> None:
        """See ClaimRepository."""

    async def lose_run(
        self, claim: Claim, *, max_lost_runs: int, failure: Change, retry: Change, first_rest: datetime.timedelta
    ) -> None:
        """See ClaimRepository."""

    async def silence(self, runner: str) -> datetime.timedelta:
        """See ClaimRepository."""


class Events(Protocol):
    """EventLog, as far as a follower needs it."""

    async def append(
        self, claim: Claim, after: int, events: Sequence[task_event_pb2.TaskEvent], progress: Progress | None
    ) -> int:
        """See EventLog."""
