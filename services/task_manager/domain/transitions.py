"""The permitted moves between states, as data; the migration holds the same table and the database enforces it again."""

from collections.abc import Mapping

from services.task_manager.domain.task import State

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
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


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
