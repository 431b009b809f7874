"""What an attempt needs next and what its end means, as pure functions; used by the follower of a run and by the claims."""

import dataclasses
import datetime
import enum
from collections.abc import Sequence

from services.task_manager.domain import transitions
from services.task_manager.domain.task import Change, State

LOST_ANSWER = datetime.timedelta(seconds=45)
"""A connection on which calls go out and no answer comes back is given up after 40 s (services/common/channels.py)."""


class Step(enum.Enum):
    """What a follower does in one round."""

    START = "start the run, then follow it"
    FOLLOW = "follow the run"
    CANCEL = "record that the task is cancelled"
    PAUSE = "record that the task is paused"


def next_step(state: State, stored_events: int, *, may_have_started: bool, is_accepted: bool) -> Step:
    """`may_have_started`: somebody may have asked a trainer for the run; `is_accepted`: a trainer has said that it has it."""
    if not may_have_started and state is State.CANCELLING:
        return Step.CANCEL
    if not may_have_started and state is State.PAUSING:
        return Step.PAUSE
    # Once events are stored, starting again would begin another run under the same name.
    return Step.START if state is State.STARTING and stored_events == 0 and not is_accepted else Step.FOLLOW


@dataclasses.dataclass(slots=True)
class Failing:
    """For how long a follower has asked its trainer in vain, one try after the other; times are in seconds.

    Its own tries may be what reaches the trainer last. A try long after the one before, by a process that was stopped meanwhile,
    begins anew.
    """

    since: float | None = None
    last: float = 0.0

    def failed(self, now: float) -> datetime.timedelta:
        """So long, with a try that failed now."""
        if self.since is None or now - self.last > LOST_ANSWER.total_seconds():
            self.since = now
        self.last = now
        return datetime.timedelta(seconds=now - self.since)


def has_fenced_itself(fenced_after: datetime.timedelta, silence: datetime.timedelta, asked_every: datetime.timedelta) -> bool:
    """Whether a strict trainer that no task manager has heard of for so long has ended its runs.

    It counts from the last call that reached it. That may be one whose answer was lost on the way, or the last one of a task
    manager that ended before it wrote it down; trainers are asked, and that is written, every `asked_every`.
    """
    return silence >= fenced_after + LOST_ANSWER + asked_every


def moves(state: State, end: Change) -> Sequence[Change]:
    """The moves that record the end of an attempt; a run that succeeded before anybody saw it run has been RUNNING, too."""
    change = transitions.as_asked(state, end)
    if state is State.STARTING and change.to is State.SUCCEEDED:
        return [Change(State.RUNNING, "the run has started"), change]
    return [change]


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """What the loss of a run leads to."""

    lost_runs: int
    change: Change


def after_loss(state: State, lost_runs: int, most: int, failure: Change, retry: Change) -> Loss:
    """`retry` while fewer than `most` runs were lost, then `failure`. What was being paused or cancelled ends so.

    The end of a run that was being paused is what was asked for, and no loss.
    """
    is_pausing = state is State.PAUSING
    lost = lost_runs + (not is_pausing)
    return Loss(lost, transitions.as_asked(state, retry if lost < most or is_pausing else failure))
