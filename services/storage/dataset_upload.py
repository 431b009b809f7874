"""From a stream of chunks to a stored dataset; used by the dataset servicer, and by uploads in parts."""

import uuid
from collections.abc import AsyncIterator, Callable

import structlog

from services.storage.dataset import Dataset, DatasetDraft, DatasetHeader
from services.storage.dataset_intake import AcceptedFile, DatasetIntake
from services.storage.dataset_repository import DatasetRepository
from services.storage.object_store import ObjectStore
from services.storage.part_upload import PartUpload
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import PendingObjects, pending_objects, remove_objects

log = structlog.get_logger()


class DatasetUpload:
    """Checks and stores datasets."""

    def __init__(
        self,
        intake: DatasetIntake,
        repository: DatasetRepository,
        store: ObjectStore,
        pending: PendingObjectRepository,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._intake = intake
        self._repository = repository
        self._store = store
        self._pending = pending
        self._new_id = new_id

    async def receive(
        self,
        header: DatasetHeader,
        chunks: AsyncIterator[bytes],
        completed: Callable[[DatasetHeader], DatasetHeader] = lambda header: header,
    ) -> Dataset:
        """Stores a file whose every row is good, or whose bad rows the budget covers.

        `completed` adds to the header what the caller has said behind the last chunk.

        Raises ServiceError: DATASET_INVALID and its kin, CHECKSUM_MISMATCH, REQUEST_ID_REUSED, UPLOAD_EXPIRED, DISK_FULL,
        CHECKER_FAILED, Unavailable.
        """
        async with (
            self._intake.accepted(header, chunks, keep_original=True) as file,
            pending_objects(self._store, self._pending) as pending,
        ):
            return await self._stored(completed(header), file, {}, pending)

    async def complete(self, upload: PartUpload) -> Dataset:
        """The same for a file that lies in the store under the upload's key; a failure leaves it there.

        Raises as `receive` does.
        """
        key = upload.object_key
        async with (
            self._intake.accepted(upload.header, self._store.read(key, 0, upload.size_bytes), keep_original=False) as file,
            pending_objects(self._store, self._pending) as pending,
        ):
            dataset = await self._stored(upload.header, file, {file.files[0].sha256: key}, pending, upload.id)
        if key not in (each.object_key for each in dataset.files):
            await remove_objects(self._store, self._pending, [key])
        return dataset

    async def _stored(
        self,
        header: DatasetHeader,
        file: AcceptedFile,
        keys: dict[str, str],
        pending: PendingObjects,
        upload: uuid.UUID | None = None,
    ) -> Dataset:
        sizes = {each.sha256: each.size_bytes for each in file.files}
        for sha256, content in file.contents.items():
            keys[sha256] = f"blobs/{self._new_id()}"
            await pending.put(keys[sha256], content, sizes[sha256])
        draft = _draft(self._new_id(), header, file, upload)
        dataset = await pending.commit(self._repository.add(draft, keys))
        pending.keep(each.object_key for each in dataset.files)
        log.info("dataset.stored", dataset=dataset.name, version=dataset.version, repeated=dataset.id != draft.id)
        return dataset


def _draft(identifier: uuid.UUID, header: DatasetHeader, file: AcceptedFile, upload: uuid.UUID | None) -> DatasetDraft:
    outcome = file.outcome
    return DatasetDraft(
        id=identifier,
        header=header,
        format=outcome.format,
        example_count=outcome.row_count,
        statistics=outcome.statistics,
        warnings=outcome.warnings,
        dropped_rows_by_reason=outcome.dropped_rows_by_reason,
        files=file.files,
        index=outcome.index,
        upload=upload,
    )
