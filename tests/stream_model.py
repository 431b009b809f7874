"""A model of one task's stream, fed with all that any of its readers was sent; says which of the six promises was broken.

ordered: numbers only grow within a connection. unique: a number is sent once per connection and is the same event for everybody.
reliable: no number is left out. atomic: an end is told with its cause, the last event. resumable: a connection goes on exactly
behind its cursor. bookmarkable: whoever was told a head has been sent everything up to it.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from stream_contract import TERMINAL

from tunesmith.v1 import task_event_pb2, task_pb2


@dataclasses.dataclass(frozen=True)
class Violation:
    """A broken promise; `connection` counts from 0."""

    promise: str
    connection: int
    message: str


class StreamModel:
    """Of unfiltered WatchTask streams of one task."""

    def __init__(self) -> None:
        self._facts: dict[int, bytes] = {}
        self._connections = 0
        self.violations: list[Violation] = []

    def connection(self, messages: Sequence[Any], *, after: int = 0, complete: bool = True) -> None:
        """All messages of one connection; `complete`: it ended with status OK."""
        for promise, message in self._broken(messages, after, complete):
            self.violations.append(Violation(promise, self._connections, message))
        self._connections += 1

    def events(self) -> list[task_event_pb2.TaskEvent]:
        """All that anybody was sent, in order."""
        return [task_event_pb2.TaskEvent.FromString(self._facts[number]) for number in sorted(self._facts)]

    def check(self) -> None:
        """Asserts that nothing was broken, over all connections together."""
        assert not self.violations, "\n".join(map(str, self.violations))
        assert sorted(self._facts) == list(range(1, len(self._facts) + 1)), "somebody was sent each number"

    def _broken(self, messages: Sequence[Any], after: int, complete: bool) -> Iterator[tuple[str, str]]:
        cursor, events, bookmark = after, list[task_event_pb2.TaskEvent](), 0
        for message in messages:
            for event in message.events:
                yield from self._broken_by(event, cursor, after, bookmark)
                cursor = max(cursor, event.sequence)
                events.append(event)
            if message.WhichOneof("control") == "heartbeat":
                bookmark = message.heartbeat.head_sequence
                if bookmark > cursor:
                    yield "bookmarkable", f"a heartbeat says {bookmark}, sent was {cursor}"
        if complete:
            yield from _broken_end(messages, events, cursor)

    def _broken_by(self, event: task_event_pb2.TaskEvent, cursor: int, after: int, bookmark: int) -> Iterator[tuple[str, str]]:
        number, body = event.sequence, event.SerializeToString(deterministic=True)
        if self._facts.setdefault(number, body) != body:
            yield "unique", f"{number} is not the event that somebody else was sent"
        if number == cursor:
            yield "unique", f"{number} comes twice"
        elif number < cursor:
            yield "ordered", f"{number} comes behind {cursor}"
        elif number > cursor + 1:
            yield ("resumable" if cursor == after else "reliable"), f"{number} comes behind {cursor}"
        if number <= bookmark:
            yield "bookmarkable", f"{number} comes behind the bookmark {bookmark}"


def _broken_end(messages: Sequence[Any], events: Sequence[task_event_pb2.TaskEvent], cursor: int) -> Iterator[tuple[str, str]]:
    last = messages[-1] if messages else None
    if last is None or last.WhichOneof("control") != "end":
        yield "reliable", "it closed without an end"
        return
    end = last.end
    if end.head_sequence != cursor:
        yield "reliable", f"the end says {end.head_sequence}, sent was {cursor}"
    if end.state not in TERMINAL:
        yield "atomic", "an end in a state that is not terminal"
    for event, following in itertools.pairwise(events):
        is_retried = following.state_change.to_state == task_pb2.Task.QUEUED
        if event.state_change.to_state in TERMINAL and not is_retried:
            yield "atomic", f"{event.sequence} is terminal and not the last"
    if events and events[-1].state_change.to_state != end.state:
        yield "atomic", "the end is not in the state of the last event"
    if events and (end.HasField("error"), end.error) != (
        events[-1].state_change.HasField("error"),
        events[-1].state_change.error,
    ):
        yield "atomic", "the end has another error than the last event"
