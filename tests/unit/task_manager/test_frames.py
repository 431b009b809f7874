"""Events as bytes: frames are bounded, hold what they were given and are numbered by their rows."""

import pytest

from services.task_manager.event_batches import split_at_start
from services.task_manager.frames import MAX_BYTES, MAX_EVENTS, decode, encode, pack, split
from tunesmith.v1 import task_event_pb2

SIZES = [(0, 1), (1, 1), (1, 200), (1200, 10), (40, 16_000), (3, 400_000), (2, 110), (2, 111)]


def log_event(sequence: int, size: int = 10) -> task_event_pb2.TaskEvent:
    return task_event_pb2.TaskEvent(sequence=sequence, log_entry=task_event_pb2.LogEntry(text="x" * size))


def start(sequence: int) -> task_event_pb2.TaskEvent:
    return task_event_pb2.TaskEvent(sequence=sequence, training_started=task_event_pb2.TrainingStarted())


@pytest.mark.parametrize("attempt", [None, 3])
def test_the_row_numbers_its_events(attempt: int | None) -> None:
    events = [log_event(1), log_event(2)]
    events[1].attempt = 2

    found = decode(7, attempt, encode(events))

    assert [(event.sequence, event.attempt) for event in found] == [(7, attempt or 0), (8, attempt or 2)]
    assert [event.log_entry for event in found] == [event.log_entry for event in events]


@pytest.mark.parametrize(("count", "size"), SIZES)
def test_groups_are_bounded_and_join_to_the_whole(count: int, size: int) -> None:
    events = [log_event(number, size) for number in range(1, count + 1)]

    groups = list(split(events))

    assert [event for group in groups for event in group] == events
    assert all(1 <= len(group) <= MAX_EVENTS for group in groups)
    assert all(len(group) == 1 or sum(event.ByteSize() for event in group) <= MAX_BYTES for group in groups)


@pytest.mark.parametrize(("count", "size"), SIZES)
def test_packed_frames_are_the_groups_as_bytes(count: int, size: int) -> None:
    events = [log_event(number, size) for number in range(1, count + 1)]

    counts, frames = pack(iter(events))

    assert counts == [len(group) for group in split(events)]
    assert frames == [encode(group) for group in split(events)]


@pytest.mark.parametrize(
    ("given", "groups"),
    [("", []), ("l", [[1]]), ("ls", [[1], [2]]), ("sl", [[1, 2]]), ("lsll", [[1], [2, 3, 4]]), ("ss", [[1], [2]])],
)
def test_the_beginning_of_the_training_opens_a_group(given: str, groups: list[list[int]]) -> None:
    events = [start(number) if kind == "s" else log_event(number) for number, kind in enumerate(given, 1)]

    assert [[event.sequence for event in group] for group in split_at_start(events)] == groups
