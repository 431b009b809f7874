"""Segments of events: rows in Postgres, bytes in the object store; used by the archive's servicer."""

import hashlib
import io
import uuid
from collections.abc import Callable

from services.common.errors import NotFound, ServiceError
from services.storage.event_segment_repository import EventSegmentRepository
from services.storage.file import StoredFile
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import pending_objects
from services.storage.verified_read import VerifiedRead


class EventArchive:
    """Every method raises Unavailable (POSTGRES_UNAVAILABLE, OBJECT_STORE_UNAVAILABLE). `new_id` makes the keys of objects."""

    def __init__(
        self,
        *,
        segments: EventSegmentRepository,
        files: VerifiedRead,
        store: ObjectStore,
        pending: PendingObjectRepository,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._segments = segments
        self._files = files
        self._store = store
        self._pending = pending
        self._new_id = new_id

    async def put(self, task: uuid.UUID, sha256: str, content: bytes) -> None:
        """Keeps the bytes; a repeat stores nothing, unless what is stored lies damaged.

        Raises ServiceError (CHECKSUM_MISMATCH, UPLOAD_EXPIRED).
        """
        if (actual := hashlib.sha256(content).hexdigest()) != sha256:
            raise ServiceError("CHECKSUM_MISMATCH", f"a segment of tasks/{task} has the SHA-256 {actual}, not {sha256}")
        known = await self._segments.find(task, sha256)
        if known is not None and not known.damage:
            return
        async with pending_objects(self._store, self._pending) as pending:
            key = f"events/{self._new_id()}"
            await pending.put(key, io.BytesIO(content), len(content))
            if await pending.commit(self._segments.add(task, StoredFile(f"events/{sha256}", len(content), sha256, key))):
                pending.keep([key])

    async def get(self, task: uuid.UUID, sha256: str) -> bytes:
        """The bytes; raises NotFound (FILE_NOT_FOUND) and ServiceError (FILE_DAMAGED)."""
        segment = await self._segments.find(task, sha256)
        if segment is None:
            raise NotFound("FILE_NOT_FOUND", sha256, message=f"tasks/{task} has no segment of events {sha256}")
        return await self._files.whole(segment, f"tasks/{task}", "Restore a backup: nothing else has these events.")

    async def delete(self, task: uuid.UUID) -> None:
        """Gives the task's bytes to the sweeper."""
        await self._segments.delete(task)
