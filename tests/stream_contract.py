"""The stream contract as a function: what every WatchTask, StreamMetrics, StreamLogs and StreamRunEvents must keep."""

import itertools
from collections.abc import Sequence
from typing import Any

from tunesmith.v1 import task_pb2

TERMINAL = {task_pb2.Task.SUCCEEDED, task_pb2.Task.FAILED, task_pb2.Task.CANCELLED}


def check_stream(messages: Sequence[Any], *, after: int = 0, complete: bool = True, filtered: bool = False) -> list[int]:
    """Asserts the contract over all messages of one stream and returns the sequence numbers it brought.

    `complete`: the stream ended with status OK. `filtered`: some events were not asked for, so numbers may be missing.
    """
    assert messages, "a stream has at least a header"
    controls = [message.WhichOneof("control") for message in messages]
    check_header(messages[0], after)
    assert controls.count("header") == 1, "one header"
    sequences = [item.sequence for message in messages for item in items(message)]
    check_order(sequences, after, filtered=filtered)
    check_heartbeats(messages, after, filtered=filtered)
    for message, control in zip(messages, controls, strict=True):
        assert bool(items(message)) != bool(control), "a message is events or control, not both and not neither"
    if complete:
        check_end(messages, sequences, after, filtered=filtered)
    else:
        assert "end" not in controls, "only a complete stream has an end"
    return sequences


def items(message: Any) -> Sequence[Any]:
    """The events, points or lines of a message."""
    for field in ("events", "points", "lines"):
        if field in message.DESCRIPTOR.fields_by_name:
            return getattr(message, field)  # type: ignore[no-any-return]
    raise AssertionError(f"{message.DESCRIPTOR.name} is not a stream message")


def check_header(message: Any, after: int) -> None:
    """The first message says where the stream stands."""
    assert message.WhichOneof("control") == "header", "the header is first"
    assert message.header.state, "a header has a state"
    assert message.header.first_available_sequence - 1 <= after <= message.header.head_sequence


def check_order(sequences: Sequence[int], after: int, *, filtered: bool) -> None:
    """Ordered, unique, and contiguous unless filtered."""
    assert all(left < right for left, right in zip([after, *sequences], sequences, strict=False)), f"not in order: {sequences}"
    if not filtered:
        assert list(sequences) == list(range(after + 1, after + 1 + len(sequences))), f"not contiguous: {sequences}"


def check_heartbeats(messages: Sequence[Any], after: int, *, filtered: bool) -> None:
    """A heartbeat never names an event that has not been sent yet (or been left out by a filter)."""
    newest = after
    for message in messages:
        for item in items(message):
            newest = item.sequence
        if message.WhichOneof("control") == "heartbeat":
            head = message.heartbeat.head_sequence
            assert head >= newest
            assert filtered or head == newest
            newest = head


def check_end(messages: Sequence[Any], sequences: Sequence[int], after: int, *, filtered: bool) -> None:
    """The last message is the end, in a terminal state, and nothing was left out before it."""
    end = messages[-1].end
    assert messages[-1].WhichOneof("control") == "end", "the end is last"
    assert [message.WhichOneof("control") for message in messages].count("end") == 1
    assert end.state in TERMINAL
    assert end.HasField("error") == (end.state == task_pb2.Task.FAILED)
    assert bool(end.artifact) == (end.state == task_pb2.Task.SUCCEEDED)
    newest = sequences[-1] if sequences else after
    assert newest <= end.head_sequence if filtered else newest == end.head_sequence


def check_events(events: Sequence[Any]) -> None:
    """Over all events of a complete task: states chain from QUEUED to a terminal one, the last event.

    Only another try follows an end.
    """
    changes = [event.state_change for event in events if event.WhichOneof("event") == "state_change"]
    assert changes[0].from_state == task_pb2.Task.STATE_UNSPECIFIED
    assert changes[0].to_state == task_pb2.Task.QUEUED
    for before, after in itertools.pairwise(changes):
        assert before.to_state == after.from_state, "states chain"
    assert all(change.reason for change in changes), "every change says why"
    for ended, after in itertools.pairwise(changes):
        retried = (task_pb2.Task.FAILED, task_pb2.Task.CANCELLED)
        assert ended.to_state not in TERMINAL or (ended.to_state in retried and after.to_state == task_pb2.Task.QUEUED)
    assert changes[-1].to_state in TERMINAL
    assert events[-1].WhichOneof("event") == "state_change", "nothing follows the terminal state"
    attempts = [event.attempt for event in events]
    assert attempts == sorted(attempts), "attempts only grow"
