"""The model of streams finds every broken promise, and none in a stream that keeps them."""

from collections.abc import Callable

import pytest
from stream_model import StreamModel

from tunesmith.v1 import task_error_pb2, task_event_pb2, task_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

Task = task_pb2.Task
Messages = list[api.WatchTaskResponse]


def change(to_state: Task.State.ValueType) -> task_event_pb2.TaskEvent:
    event = task_event_pb2.TaskEvent(state_change=task_event_pb2.StateChange(to_state=to_state, reason="r"))
    if to_state == Task.FAILED:
        event.state_change.error.CopyFrom(task_error_pb2.TaskError(reason="R"))
    return event


def events_of(state: Task.State.ValueType = Task.SUCCEEDED) -> list[task_event_pb2.TaskEvent]:
    """Six, numbered."""
    lines = [task_event_pb2.TaskEvent(log_entry=task_event_pb2.LogEntry(text=text)) for text in "abc"]
    events = [change(Task.QUEUED), change(Task.RUNNING), *lines, change(state)]
    for number, event in enumerate(events, 1):
        event.sequence = number
    return events


def stream(after: int = 0, state: Task.State.ValueType = Task.SUCCEEDED, *, complete: bool = True) -> Messages:
    """Header, two events a message, a heartbeat behind the first, the end."""
    events = events_of(state)[after:]
    groups = [api.WatchTaskResponse(events=events[index : index + 2]) for index in range(0, len(events), 2)]
    if groups:
        groups.insert(1, api.WatchTaskResponse(heartbeat=task_event_pb2.Heartbeat(head_sequence=groups[0].events[-1].sequence)))
    error = task_error_pb2.TaskError(reason="R") if state == Task.FAILED else None
    end = api.WatchTaskResponse(end=task_event_pb2.StreamEnd(head_sequence=6, state=state, error=error))
    return [api.WatchTaskResponse(header=task_event_pb2.StreamHeader(head_sequence=6)), *groups, *([end] if complete else [])]


@pytest.mark.parametrize("state", [Task.SUCCEEDED, Task.FAILED, Task.CANCELLED])
def test_streams_that_keep_the_promises_pass(state: Task.State.ValueType) -> None:
    model = StreamModel()
    for after in range(7):
        model.connection(stream(after, state), after=after)
    model.connection(stream(2, state, complete=False), after=2, complete=False)
    model.check()


def swap(messages: Messages) -> None:
    events = messages[3].events
    events[0].sequence, events[1].sequence = events[1].sequence, events[0].sequence


def double(messages: Messages) -> None:
    messages.insert(2, messages[1])


def leave_out(messages: Messages) -> None:
    del messages[3]


def leave_out_the_first(messages: Messages) -> None:
    del messages[1].events[0]


def change_an_event(messages: Messages) -> None:
    messages[3].events[0].log_entry.text = "other"


def lose_the_end(messages: Messages) -> None:
    messages.pop()


def end_early(messages: Messages) -> None:
    del messages[-2].events[-1]
    messages[-1].end.head_sequence = 5


def end_otherwise(messages: Messages) -> None:
    messages[-1].end.state = Task.CANCELLED


def end_with_an_error(messages: Messages) -> None:
    messages[-1].end.error.reason = "R"


def end_in_a_state_that_goes_on(messages: Messages) -> None:
    messages[-1].end.state = Task.PAUSED


def promise_too_much(messages: Messages) -> None:
    messages[2].heartbeat.head_sequence = 4


def go_on_after_the_end(messages: Messages) -> None:
    messages[3].events[0].CopyFrom(change(Task.FAILED))
    messages[3].events[0].sequence = 3


@pytest.mark.parametrize(
    ("break_it", "promise"),
    [
        (swap, "ordered"),
        (double, "unique"),
        (change_an_event, "unique"),
        (leave_out, "reliable"),
        (lose_the_end, "reliable"),
        (end_early, "atomic"),
        (end_otherwise, "atomic"),
        (end_with_an_error, "atomic"),
        (end_in_a_state_that_goes_on, "atomic"),
        (go_on_after_the_end, "atomic"),
        (leave_out_the_first, "resumable"),
        (promise_too_much, "bookmarkable"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_broken_promise_is_found(break_it: Callable[[Messages], None], promise: str) -> None:
    model, broken = StreamModel(), stream()
    model.connection(stream())
    break_it(broken)
    model.connection(broken)
    assert promise in {violation.promise for violation in model.violations}
    assert {violation.connection for violation in model.violations} == {1}
    with pytest.raises(AssertionError, match=promise):
        model.check()


def test_another_try_behind_an_end_is_no_broken_promise() -> None:
    messages = stream()
    messages[3].events[0].CopyFrom(change(Task.FAILED))
    messages[3].events[1].CopyFrom(change(Task.QUEUED))
    for number, event in enumerate(messages[3].events, 3):
        event.sequence = number
    model = StreamModel()
    model.connection(messages)
    model.check()
    assert [event.sequence for event in model.events()] == [1, 2, 3, 4, 5, 6]


def test_a_cursor_that_is_ignored_is_found() -> None:
    model = StreamModel()
    model.connection(stream(0), after=3)
    assert {violation.promise for violation in model.violations} >= {"ordered"}


def test_what_nobody_was_sent_is_missed() -> None:
    model = StreamModel()
    model.connection(stream(3), after=3)
    with pytest.raises(AssertionError, match="each number"):
        model.check()
