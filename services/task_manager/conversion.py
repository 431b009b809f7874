"""Translates between the domain's values and the messages of the API; used at the edges: servicer, repositories, follower."""

import datetime

from services.common.catalogue import CATALOGUE
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import Change, Snapshot, State, Task, Transition
from services.task_manager.domain.transitions import actor
from services.task_manager.times import to_duration, to_timestamp
from tunesmith.v1 import task_error_pb2, task_event_pb2, task_pb2, task_spec_pb2

_STATES = {state: task_pb2.Task.State.Value(state.value) for state in State}
_STATES_BACK: dict[int, State] = {number: state for state, number in _STATES.items()}


def state_to_proto(state: State | None) -> task_pb2.Task.State.ValueType:
    """The enum's number; None = unspecified."""
    return _STATES[state] if state else task_pb2.Task.STATE_UNSPECIFIED


def state_from_proto(number: int) -> State | None:
    """The state; None = unspecified or not known here."""
    return _STATES_BACK.get(number)


def task_to_proto(task: Task) -> task_pb2.Task:
    """The resource."""
    message = task_pb2.Task(
        name=task.name,
        display_name=task.display_name,
        description=task.description,
        spec=task_spec_pb2.TaskSpec.FromString(task.spec),
        effective_hyperparameters=task_spec_pb2.Hyperparameters.FromString(task.effective_hyperparameters),
        state=state_to_proto(task.state),
        state_reason=task.state_reason,
        error=error_to_proto(task.error),
        artifact=task.artifact,
        attempt=task.attempt,
        epoch=task.epoch,
        head_sequence=task.head_sequence,
        create_time=to_timestamp(task.create_time),
        start_time=to_timestamp(task.start_time),
        end_time=to_timestamp(task.end_time),
        update_time=to_timestamp(task.update_time),
        labels=task.labels,
        priority=task.priority,
        not_before_time=to_timestamp(task.not_before),
        max_attempts=task.max_attempts or 0,
        creator=task.creator,
        expected_start_time=to_timestamp(task.expected_start_time),
    )
    if task.origin_artifact or task.cloned_from:
        message.origin.CopyFrom(_origin(task))
    if task.progress:
        message.progress.CopyFrom(progress_to_proto(task.progress))
    return message


def _origin(task: Task) -> task_pb2.TaskOrigin:
    return task_pb2.TaskOrigin(
        artifact=task.origin_artifact,
        task=f"tasks/{task.origin_task}" if task.origin_task else "",
        step=task.origin_step,
        cloned_from=f"tasks/{task.cloned_from}" if task.cloned_from else "",
    )


def transition_to_proto(transition: Transition) -> task_pb2.TaskTransition:
    """The message."""
    return task_pb2.TaskTransition(
        from_state=state_to_proto(transition.before),
        to_state=state_to_proto(transition.after),
        actor=task_pb2.TaskTransition.Actor.Value(actor(transition.before, transition.after).value),
        reason=transition.reason,
        attempt=transition.attempt,
        time=to_timestamp(transition.time),
    )


def progress_to_proto(progress: Progress) -> task_pb2.TaskProgress:
    """The message."""
    return task_pb2.TaskProgress(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=progress.epoch,
        remaining=to_duration(progress.remaining),
        metrics=progress.metrics,
    )


def error_to_proto(error: bytes | None) -> task_error_pb2.TaskError | None:
    """The stored error of a task as a message."""
    return task_error_pb2.TaskError.FromString(error) if error is not None else None


def make_error(reason: str, message: str, hint: str = "") -> bytes:
    """A TaskError with class and hint from the catalogue, serialised."""
    entry = CATALOGUE[reason]
    error = task_error_pb2.TaskError(
        reason=reason,
        message=message,
        error_class=task_error_pb2.ErrorClass.Value(f"ERROR_CLASS_{entry.error_class.name}"),
        hint=hint or entry.hint,
    )
    return error.SerializeToString()


def state_change_event(
    sequence: int, time: datetime.datetime, attempt: int, before: State | None, change: Change
) -> task_event_pb2.TaskEvent:
    """The event of a move."""
    state_change = task_event_pb2.StateChange(
        from_state=state_to_proto(before),
        to_state=state_to_proto(change.to),
        reason=change.reason,
        error=error_to_proto(change.error),
    )
    return task_event_pb2.TaskEvent(sequence=sequence, time=to_timestamp(time), attempt=attempt, state_change=state_change)


def header_to_proto(snapshot: Snapshot) -> task_event_pb2.StreamHeader:
    """The first message of a stream."""
    return task_event_pb2.StreamHeader(
        first_available_sequence=snapshot.first_available_sequence,
        head_sequence=snapshot.head_sequence,
        epoch=snapshot.epoch,
        state=state_to_proto(snapshot.state),
    )


def end_to_proto(snapshot: Snapshot) -> task_event_pb2.StreamEnd:
    """The last message of a stream."""
    return task_event_pb2.StreamEnd(
        head_sequence=snapshot.head_sequence,
        state=state_to_proto(snapshot.state),
        error=error_to_proto(snapshot.error),
        artifact=snapshot.artifact,
    )
