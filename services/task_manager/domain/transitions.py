"""The permitted moves between states, as data; the migration holds the same table and the database enforces it again."""

import enum
from collections.abc import Mapping

from services.common.errors import ServiceError
from services.task_manager.domain.task import Change, State

ALLOWED: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.STARTING, State.CANCELLED}),
    # Back to QUEUED: the runner had no room after all, or lost the run.
    State.STARTING: frozenset({State.RUNNING, State.QUEUED, State.PAUSING, State.CANCELLING, State.FAILED}),
    State.RUNNING: frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLING, State.PAUSING, State.QUEUED}),
    State.PAUSING: frozenset({State.PAUSED, State.CANCELLING, State.FAILED, State.SUCCEEDED}),
    State.PAUSED: frozenset({State.QUEUED, State.CANCELLED}),
    # A run that ends before the cancelling reaches it has ended: the first commit wins.
    State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    # Only because somebody asked for another try.
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}


class Actor(enum.Enum):
    """Who moved a task; the values are names of TaskTransition.Actor."""

    CALLER = "CALLER"
    TASK_MANAGER = "TASK_MANAGER"
    TRAINER = "TRAINER"


_BY_TASK_MANAGER = frozenset(
    {(State.QUEUED, State.STARTING), (State.STARTING, State.QUEUED), (State.RUNNING, State.QUEUED)},
)


def actor(before: State | None, after: State) -> Actor:
    """Who makes this move: each belongs to one of them alone."""
    at_rest = (None, State.QUEUED, State.PAUSED, State.FAILED, State.CANCELLED)
    is_wish = before in at_rest and after is not State.STARTING
    if is_wish or after in (State.PAUSING, State.CANCELLING):
        return Actor.CALLER
    return Actor.TASK_MANAGER if (before, after) in _BY_TASK_MANAGER else Actor.TRAINER


class IllegalTransition(Exception):
    """A defect: code asked for a move that the table does not permit."""


def check(before: State, after: State) -> None:
    """Raises IllegalTransition when the table does not permit the move."""
    if after not in ALLOWED[before]:
        raise IllegalTransition(f"a task may not go from {before.value} to {after.value}")


def after_cancel(state: State) -> State:
    """The state that asking for the end leads to; the same state when there is nothing to do."""
    if state in (State.QUEUED, State.PAUSED):
        return State.CANCELLED
    if state.is_terminal:
        return state
    return State.CANCELLING


def after_pause(state: State) -> State:
    """The state that asking for a rest leads to; the same state when there is nothing to do. Raises TASK_NOT_RUNNING."""
    if state in (State.STARTING, State.RUNNING):
        return State.PAUSING
    if state in (State.PAUSING, State.PAUSED):
        return state
    raise ServiceError("TASK_NOT_RUNNING", f"the task is {state.value}")


def after_resume(state: State) -> State:
    """The state that asking to go on leads to; the same state when there is nothing to do. Raises TASK_NOT_PAUSED."""
    if state is State.PAUSED:
        return State.QUEUED
    if state in (State.QUEUED, State.STARTING, State.RUNNING):
        return state
    raise ServiceError("TASK_NOT_PAUSED", f"the task is {state.value}")


def as_asked(state: State, change: Change) -> Change:
    """What the end of an attempt means for a task in `state`: whatever else the end says, it was asked for."""
    if state is State.CANCELLING and change.to is not State.SUCCEEDED:
        return Change(State.CANCELLED, "the run was ended as asked for")
    if state is State.PAUSING and change.to is State.QUEUED:
        return Change(State.PAUSED, "the run was paused as asked for")
    return change
