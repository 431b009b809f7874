"""Many events as the bytes of one row, and how many are sent or stored at once; used by the event log and the streams."""

import bisect
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

from tunesmith.v1 import task_event_pb2, task_manager_service_pb2

MAX_EVENTS = 500
MAX_BYTES = 256 * 1024


def encode(events: Sequence[task_event_pb2.TaskEvent]) -> bytes:
    """The bytes of a frame: a WatchTaskResponse, so that the format is one that every reader of the API already has."""
    return task_manager_service_pb2.WatchTaskResponse(events=events).SerializeToString()


def pack(events: Iterable[task_event_pb2.TaskEvent]) -> tuple[list[int], list[bytes]]:
    """Many events as frames: how many events each has, and its bytes.

    The same bytes as `encode` makes of the groups of `split`, put together from those of the events without copying the events.
    """
    bodies = [event.SerializeToString() for event in events]
    ends = list(itertools.accumulate(map(len, bodies), initial=0))
    counts: list[int] = []
    frames: list[bytes] = []
    first = 0
    while first < len(bodies):
        last_that_fits = bisect.bisect_right(ends, ends[first] + MAX_BYTES) - 1
        end = min(max(first + 1, last_that_fits), first + MAX_EVENTS)
        counts.append(end - first)
        frames.append(_joined(bodies[first:end]))
        first = end
    return counts, frames


def concatenated(events: Iterable[task_event_pb2.TaskEvent]) -> bytes:
    """The same bytes as `encode` makes, without copying the events."""
    return _joined([event.SerializeToString() for event in events])


def _joined(bodies: Sequence[bytes]) -> bytes:
    prefixes = map(_prefix, map(len, bodies))
    return b"".join(itertools.chain.from_iterable(zip(prefixes, bodies, strict=True)))


@functools.lru_cache(maxsize=4096)
def _prefix(length: int) -> bytes:
    """What stands before an event of so many bytes: the number of the field with its wire type 2, and the length as a varint.

    https://protobuf.dev/programming-guides/encoding
    """
    prefix = bytearray([task_manager_service_pb2.WatchTaskResponse.EVENTS_FIELD_NUMBER << 3 | 2])
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)


def decode(first_sequence: int, attempt: int | None, payload: bytes) -> Sequence[task_event_pb2.TaskEvent]:
    """The events of a row: its number and, where it knows it, its attempt count, whatever the payload says."""
    events = task_manager_service_pb2.WatchTaskResponse.FromString(payload).events
    for sequence, event in enumerate(events, first_sequence):
        event.sequence = sequence
        if attempt is not None:
            event.attempt = attempt
    return events


def split(events: Iterable[task_event_pb2.TaskEvent]) -> Iterator[list[task_event_pb2.TaskEvent]]:
    """Groups of at most MAX_EVENTS events and, unless a single one is larger, MAX_BYTES bytes."""
    group: list[task_event_pb2.TaskEvent] = []
    size = 0
    for event in events:
        length = event.ByteSize()
        if group and (len(group) == MAX_EVENTS or size + length > MAX_BYTES):
            yield group
            group, size = [], 0
        group.append(event)
        size += length
    if group:
        yield group
