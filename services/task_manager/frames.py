"""Many events as the bytes of one row, and how many are sent or stored at once; used by the event log and the streams."""

from collections.abc import Iterable, Iterator, Sequence

from tunesmith.v1 import task_event_pb2, task_manager_service_pb2

MAX_EVENTS = 500
MAX_BYTES = 256 * 1024


def encode(events: Sequence[task_event_pb2.TaskEvent]) -> bytes:
    """The bytes of a frame: a WatchTaskResponse, so that the format is one that every reader of the API already has."""
    return task_manager_service_pb2.WatchTaskResponse(events=events).SerializeToString()


def decode(payload: bytes) -> Sequence[task_event_pb2.TaskEvent]:
    """The events of a frame."""
    return task_manager_service_pb2.WatchTaskResponse.FromString(payload).events


def split(events: Iterable[task_event_pb2.TaskEvent]) -> Iterator[list[task_event_pb2.TaskEvent]]:
    """Groups of at most MAX_EVENTS events and, unless a single one is larger, MAX_BYTES bytes.

    The beginning of the training opens a group, so that the state changes right before it.
    """
    group: list[task_event_pb2.TaskEvent] = []
    size = 0
    for event in events:
        length = event.ByteSize()
        is_full = len(group) == MAX_EVENTS or size + length > MAX_BYTES
        if group and (is_full or event.HasField("training_started")):
            yield group
            group, size = [], 0
        group.append(event)
        size += length
    if group:
        yield group
