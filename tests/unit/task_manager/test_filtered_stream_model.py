"""The model of filtered streams finds every broken promise, and none in a stream that keeps them."""

from collections.abc import Callable
from typing import Any

import pytest
from filtered_stream_model import LOGS, METRICS, Flavour, judge

from tunesmith.v1 import task_event_pb2, task_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

Event = task_event_pb2.TaskEvent
HEAD = 9


def facts() -> list[Event]:
    """A line, then four times a step and a line; the last change is not among what anybody asks for."""
    found = [Event(log_entry=task_event_pb2.LogEntry(text="first"))]
    for step in range(1, 5):
        found.append(Event(step_metrics=task_event_pb2.StepMetrics(step=step, values={"loss": 1 / step})))
        found.append(Event(log_entry=task_event_pb2.LogEntry(text=f"line {step}")))
    for number, event in enumerate(found, 1):
        event.sequence, event.attempt = number, 1
    return found


def metrics(after: int = 0) -> list[Any]:
    """A point a message, a heartbeat in the middle, the end."""
    messages = [api.StreamMetricsResponse(header=task_event_pb2.StreamHeader(head_sequence=HEAD))]
    for event in facts():
        if event.HasField("step_metrics") and event.sequence > after:
            values = event.step_metrics.values
            point = api.MetricPoint(sequence=event.sequence, step=event.step_metrics.step, values=values, attempt=1)
            messages.append(api.StreamMetricsResponse(points=[point]))
    messages.insert(3, api.StreamMetricsResponse(heartbeat=task_event_pb2.Heartbeat(head_sequence=5)))
    return [*messages, api.StreamMetricsResponse(end=task_event_pb2.StreamEnd(head_sequence=HEAD, state=task_pb2.Task.SUCCEEDED))]


def logs() -> list[Any]:
    """All in one message."""
    lines = [
        api.LogLine(sequence=event.sequence, entry=event.log_entry, attempt=1) for event in facts() if event.HasField("log_entry")
    ]
    end = task_event_pb2.StreamEnd(head_sequence=HEAD, state=task_pb2.Task.CANCELLED)
    return [api.StreamLogsResponse(lines=lines), api.StreamLogsResponse(end=end)]


@pytest.mark.parametrize(("flavour", "messages"), [(METRICS, metrics()), (LOGS, logs())], ids=["metrics", "logs"])
def test_streams_that_keep_the_promises_pass(flavour: Flavour, messages: list[Any]) -> None:
    assert judge(flavour, facts(), messages) == []
    assert judge(flavour, facts(), messages[:-1], complete=False) == []


@pytest.mark.parametrize("after", range(2))
def test_a_cursor_that_is_kept_passes(after: int) -> None:
    assert judge(METRICS, facts(), metrics(after), after=after) == []


def swap(messages: list[Any]) -> None:
    messages[1], messages[2] = messages[2], messages[1]


def double(messages: list[Any]) -> None:
    messages.insert(2, messages[1])


def other_value(messages: list[Any]) -> None:
    messages[1].points[0].values["loss"] = 7


def leave_out(messages: list[Any]) -> None:
    del messages[2]


def leave_out_the_first(messages: list[Any]) -> None:
    del messages[1]


def leave_out_the_last(messages: list[Any]) -> None:
    del messages[-2]


def lose_the_end(messages: list[Any]) -> None:
    messages.pop()


def end_in_a_state_that_goes_on(messages: list[Any]) -> None:
    messages[-1].end.state = task_pb2.Task.PAUSED


def promise_too_much(messages: list[Any]) -> None:
    messages[3].heartbeat.head_sequence = 6


def send_what_nobody_asked_for(messages: list[Any]) -> None:
    messages[1].points[0].sequence = 1


@pytest.mark.parametrize(
    ("break_it", "promise"),
    [
        (swap, "ordered"),
        (double, "unique"),
        (other_value, "unique"),
        (leave_out, "reliable"),
        (leave_out_the_last, "reliable"),
        (lose_the_end, "reliable"),
        (end_in_a_state_that_goes_on, "atomic"),
        (send_what_nobody_asked_for, "atomic"),
        (leave_out_the_first, "resumable"),
        (promise_too_much, "bookmarkable"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_broken_promise_is_found(break_it: Callable[[list[Any]], None], promise: str) -> None:
    messages = metrics()
    break_it(messages)
    assert promise in {violation.promise for violation in judge(METRICS, facts(), messages)}


def test_a_cursor_that_is_ignored_is_found() -> None:
    assert {violation.promise for violation in judge(METRICS, facts(), metrics(), after=4)} >= {"ordered"}
