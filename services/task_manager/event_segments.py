"""The events of tasks that have ended, packed: what a segment is, and the way to read one; used by the event log and compaction.

A segment is a serialised WatchTaskResponse with numbered events, compressed with zlib.
"""

import asyncio
import hashlib
import uuid
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from services.common.errors import ServiceError
from services.common.postgres import Connection
from services.task_manager.frames import concatenated
from tunesmith.v1 import task_event_pb2, task_manager_service_pb2

MAX_BYTES = 2 * 1024 * 1024
"""Of the events in a segment, before they are compressed; one event may be larger."""

_FIND = """
SELECT first_sequence, last_sequence, sha256 FROM task_manager.event_segment
WHERE task_id = %(id)s AND first_sequence <= %(sequence)s AND last_sequence >= %(sequence)s
"""


class Archive(Protocol):
    """Where segments are kept; raises Unavailable STORAGE_UNAVAILABLE when it does not answer."""

    async def put_segment(self, task_id: uuid.UUID, sha256: str, content: bytes) -> None:
        """Keeps a segment; a repeat changes nothing."""

    async def segment(self, task_id: uuid.UUID, sha256: str) -> bytes:
        """The bytes of a segment; raises ServiceError FILE_NOT_FOUND, FILE_DAMAGED."""

    async def forget_segments(self, task_id: uuid.UUID) -> None:
        """Removes every segment of a task; nothing happens when there is none."""


def pack_segment(events: Sequence[task_event_pb2.TaskEvent]) -> tuple[str, bytes]:
    """The SHA-256 and the bytes of a segment; the same events always make the same."""
    content = zlib.compress(concatenated(events), level=6)
    return hashlib.sha256(content).hexdigest(), content


def unpack_segment(content: bytes, sha256: str) -> Sequence[task_event_pb2.TaskEvent]:
    """The events of a segment; raises ServiceError CHECKSUM_MISMATCH."""
    if (actual := hashlib.sha256(content).hexdigest()) != sha256:
        raise ServiceError("CHECKSUM_MISMATCH", f"a segment of events has the SHA-256 {actual}, not {sha256}")
    return task_manager_service_pb2.WatchTaskResponse.FromString(zlib.decompress(content)).events


async def find_segment(connection: Connection, task_id: uuid.UUID, sequence: int) -> Mapping[str, Any] | None:
    """The row of the segment that holds an event, None when none does."""
    return await (await connection.execute(_FIND, {"id": task_id, "sequence": sequence})).fetchone()


async def read_segment(archive: Archive, task_id: uuid.UUID, sha256: str, after: int) -> list[task_event_pb2.TaskEvent]:
    """The events of a segment behind a cursor, at most about MAX_BYTES; raises as Archive does."""
    content = await archive.segment(task_id, sha256)
    events = await asyncio.to_thread(unpack_segment, content, sha256)
    return [event for event in events if event.sequence > after]
