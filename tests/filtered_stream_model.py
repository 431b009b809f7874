"""Judges StreamMetrics and StreamLogs, and filtered WatchTask, by the events of the whole stream: nothing wanted is left out.

The same six promises as in `stream_model`, over what was asked for: a heartbeat or an end vouches for everything up to its head.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from stream_contract import TERMINAL, items
from stream_model import Violation

from tunesmith.v1 import task_event_pb2

Event = task_event_pb2.TaskEvent


@dataclasses.dataclass(frozen=True)
class Flavour:
    """What a stream brings: which events, and what each becomes in it."""

    wants: Callable[[Event], bool]
    becomes: Callable[[Event], object]
    """Comparable with `tells` of the item."""
    tells: Callable[[Any], object]


METRICS = Flavour(
    wants=lambda event: event.HasField("step_metrics"),
    becomes=lambda event: (event.step_metrics.step, dict(event.step_metrics.values), event.attempt),
    tells=lambda point: (point.step, dict(point.values), point.attempt),
)
LOGS = Flavour(
    wants=lambda event: event.HasField("log_entry"),
    becomes=lambda event: (event.log_entry.text, event.attempt),
    tells=lambda line: (line.entry.text, line.attempt),
)


def judge(
    flavour: Flavour, facts: Sequence[Event], messages: Sequence[Any], *, after: int = 0, complete: bool = True
) -> list[Violation]:
    """One connection, by the events 1, 2, ... of the task as they all are."""
    broken = _broken(flavour, facts, messages, after)
    ended = _broken_end(messages) if complete else iter(())
    return [Violation(promise, 0, text) for each in (broken, ended) for promise, text in each]


def _broken(flavour: Flavour, facts: Sequence[Event], messages: Sequence[Any], after: int) -> Iterator[tuple[str, str]]:
    seen, vouched, numbers = after, after, set[int]()
    for message in messages:
        for item in items(message):
            number = item.sequence
            yield from _broken_place(number, seen, numbers)
            if number <= vouched:
                yield "bookmarkable", f"{number} comes behind the bookmark {vouched}"
            yield from _missing(flavour, facts, seen, number - 1, is_first=not numbers)
            if number > len(facts) or not flavour.wants(facts[number - 1]):
                yield "atomic", f"{number} is not what was asked for"
            elif flavour.becomes(facts[number - 1]) != flavour.tells(item):
                yield "unique", f"{number} is not the event that everybody else was sent"
            numbers.add(number)
            seen = max(seen, number)
        for control in (message.heartbeat, message.end):
            if control.head_sequence:
                yield from _missing(flavour, facts, seen, control.head_sequence, is_first=not numbers)
                seen, vouched = max(seen, control.head_sequence), max(vouched, control.head_sequence)


def _broken_place(number: int, seen: int, numbers: set[int]) -> Iterator[tuple[str, str]]:
    if number in numbers:
        yield "unique", f"{number} comes twice"
    elif number <= seen:
        yield "ordered", f"{number} comes behind {seen}"


def _missing(flavour: Flavour, facts: Sequence[Event], seen: int, last: int, *, is_first: bool) -> Iterator[tuple[str, str]]:
    for event in facts[seen:last]:
        if flavour.wants(event):
            yield ("resumable" if is_first else "reliable"), f"{event.sequence} was left out"


def _broken_end(messages: Sequence[Any]) -> Iterator[tuple[str, str]]:
    if not messages or messages[-1].WhichOneof("control") != "end":
        yield "reliable", "it closed without an end"
    elif messages[-1].end.state not in TERMINAL:
        yield "atomic", "an end in a state that is not terminal"
