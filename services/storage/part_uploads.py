"""Uploads whose parts go straight to the object store by presigned URLs; used by the dataset servicer."""

import datetime
import uuid
from collections.abc import Callable, Sequence

import structlog

from services.common.errors import ServiceError
from services.storage.dataset import Dataset, DatasetHeader
from services.storage.dataset_repository import DatasetRepository
from services.storage.dataset_upload import DatasetUpload
from services.storage.keyed_locks import KeyedLocks
from services.storage.object_store import ObjectStore
from services.storage.part_upload import Part, PartUpload, PartUploadDraft, missing_parts, parts_of
from services.storage.part_upload_repository import PartUploadRepository
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import remove_objects

log = structlog.get_logger()

# Failures that a repeat cannot mend.
_FINAL = ("INVALID_ARGUMENT", "DATA_LOSS", "ALREADY_EXISTS")


class PartUploads:
    """Begins, completes and ends uploads in parts. URLs work for `lifetime`, as long as the rows live."""

    def __init__(
        self,
        *,
        uploads: PartUploadRepository,
        datasets: DatasetRepository,
        pending: PendingObjectRepository,
        store: ObjectStore,
        completion: DatasetUpload,
        new_id: Callable[[], uuid.UUID],
        lifetime: datetime.timedelta,
    ) -> None:
        self._uploads = uploads
        self._datasets = datasets
        self._pending = pending
        self._store = store
        self._completion = completion
        self._new_id = new_id
        self._lifetime = lifetime
        self._locks: KeyedLocks[uuid.UUID] = KeyedLocks()

    async def begin(self, header: DatasetHeader, size_bytes: int) -> tuple[PartUpload, list[tuple[Part, str]]]:
        """A new upload, and where to send its parts; raises ServiceError (PRESIGNED_UPLOADS_OFF), Unavailable."""
        identifier = self._new_id()
        key = f"blobs/{identifier}"
        self._url(key, "", 1)
        await self._pending.add(key, size_bytes)
        multipart_id = await self._store.begin_parts(key)
        upload = await self._uploads.add(PartUploadDraft(identifier, header, size_bytes, key, multipart_id))
        log.info("part_upload.begun", upload=upload.name, size_bytes=size_bytes)
        return upload, [(part, self._url(key, multipart_id, part.number)) for part in parts_of(size_bytes)]

    async def complete(self, identifier: uuid.UUID) -> Dataset:
        """The dataset of an upload whose parts have all arrived; a repeat returns it again.

        Raises ServiceError: UPLOAD_NOT_FOUND, UPLOAD_INCOMPLETE, and as DatasetUpload.complete; a refused file is removed.
        """
        async with self._locks.of(identifier):
            upload = await self._uploads.get(identifier)
            if upload.dataset is not None:
                return await self._datasets.get(upload.dataset)
            try:
                await self._join(upload)
                return await self._completion.complete(upload)
            except ServiceError as error:
                if error.status in _FINAL:
                    await self.end(identifier)
                raise

    async def end(self, identifier: uuid.UUID) -> None:
        """Removes an upload and its bytes; nothing happens when it is completed or gone."""
        key = await self._uploads.end(identifier)
        if key is not None:
            await remove_objects(self._store, self._pending, [key])

    async def _join(self, upload: PartUpload) -> None:
        """Makes the object; a call that was killed may have done so already."""
        if await self._store.size(upload.object_key) == upload.size_bytes:
            return
        arrived = await self._store.arrived_parts(upload.object_key, upload.multipart_id)
        if missing := missing_parts(upload.size_bytes, arrived):
            raise _incomplete(upload, missing)
        await self._store.join_parts(upload.object_key, upload.multipart_id)
        size = await self._store.size(upload.object_key)
        if size != upload.size_bytes:
            raise ServiceError("CHECKSUM_MISMATCH", f"the parts make {size or 0} bytes, expected were {upload.size_bytes}")

    def _url(self, key: str, multipart_id: str, number: int) -> str:
        url = self._store.part_url(key, multipart_id, number, self._lifetime)
        if url is None:
            raise ServiceError("PRESIGNED_UPLOADS_OFF", "callers of this service cannot reach its object store")
        return url


def _incomplete(upload: PartUpload, missing: Sequence[Part]) -> ServiceError:
    numbers = ", ".join(str(part.number) for part in missing[:20]) + (", …" if len(missing) > 20 else "")
    message = f"{upload.name}: {len(missing)} parts are missing or have another size: {numbers}"
    return ServiceError("UPLOAD_INCOMPLETE", message, metadata={"missing_parts": numbers, "missing_count": str(len(missing))})
