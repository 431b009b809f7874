"""Files that come in pieces of any size and order, and are put together when all are named; used by the dataset servicer.

A piece is an object that no row will ever refer to: its record as a pending object stays, and so the sweeper removes it when
nobody else has.
"""

import dataclasses
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from services.common.blocking import in_thread
from services.common.errors import InvalidArgument, ServiceError, Violation
from services.storage.dataset import Dataset, DatasetHeader
from services.storage.dataset_repository import DatasetRepository
from services.storage.dataset_upload import DatasetUpload
from services.storage.keyed_locks import KeyedLocks
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository
from services.storage.pending_objects import pending_objects, remove_objects
from services.storage.spool import Spool

log = structlog.get_logger()

MAX_PIECES = 10_000
MAX_PIECE_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class JoinedFile:
    """What is to be made of which pieces, in the order of their bytes."""

    upload: uuid.UUID
    header: DatasetHeader
    pieces: Sequence[uuid.UUID]
    size_bytes: int
    md5: str = ""
    """Lower-case hexadecimal; empty = not told."""


class DatasetPieces:
    """Takes, joins and removes pieces."""

    def __init__(
        self,
        *,
        datasets: DatasetRepository,
        pending: PendingObjectRepository,
        store: ObjectStore,
        upload: DatasetUpload,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._datasets = datasets
        self._pending = pending
        self._store = store
        self._upload = upload
        self._new_id = new_id
        self._locks: KeyedLocks[uuid.UUID] = KeyedLocks()

    async def add(self, upload: uuid.UUID, chunks: AsyncIterator[bytes]) -> tuple[uuid.UUID, int]:
        """A stored piece and its size; raises InvalidArgument when it is empty or too big, DISK_FULL, Unavailable."""
        identifier = self._new_id()
        with Spool() as spool:
            async for chunk in chunks:
                await in_thread(spool.write, chunk)
                _refuse_size(spool.size_bytes)
            _refuse_size(spool.size_bytes or MAX_PIECE_BYTES + 1)
            async with pending_objects(self._store, self._pending) as pending:
                key = _key(upload, identifier)
                await pending.put(key, spool.content(), spool.size_bytes)
                pending.keep([key])
        return identifier, spool.size_bytes

    async def join(self, file: JoinedFile) -> Dataset:
        """The dataset; a repeat returns it again.

        Raises ServiceError: UPLOAD_INCOMPLETE, CHECKSUM_MISMATCH, and as DatasetUpload.receive; pieces of a refused file are
        removed.
        """
        async with self._locks.of(file.upload):
            if known := await self._datasets.of_request(file.upload):
                return known
            sizes = await self._sizes(file)
            try:
                dataset = await self._upload.receive(file.header, self._bytes(file, sizes))
            except ServiceError as error:
                if error.status == "INVALID_ARGUMENT":
                    await self.remove(file.upload)
                raise
            # A file that was there under its name before has no trace of this upload: a repeat needs the pieces again.
            if await self._datasets.of_request(file.upload):
                await self.remove(file.upload)
            return dataset

    async def remove(self, upload: uuid.UUID) -> None:
        """Removes all pieces of an upload, as far as the store lets it."""
        found = await self._store.list(f"pieces/{upload}/")
        await remove_objects(self._store, self._pending, [each.key for each in found])

    async def _sizes(self, file: JoinedFile) -> dict[str, int]:
        """Bytes by object key, in the order of the file."""
        sizes: dict[str, int] = {}
        for piece in file.pieces:
            size = await self._store.size(key := _key(file.upload, piece))
            if size is None or key in sizes:
                what = "is there twice" if size else "does not exist, was joined, or was removed"
                raise ServiceError("UPLOAD_INCOMPLETE", f"datasetPieces/{piece} {what}")
            sizes[key] = size
        if sum(sizes.values()) != file.size_bytes:
            message = f"the pieces make {sum(sizes.values())} bytes, expected were {file.size_bytes}"
            raise ServiceError("UPLOAD_INCOMPLETE", message)
        return sizes

    async def _bytes(self, file: JoinedFile, sizes: dict[str, int]) -> AsyncIterator[bytes]:
        digest = hashlib.md5(usedforsecurity=False)
        for key, size in sizes.items():
            async for chunk in self._store.read(key, 0, size):
                digest.update(chunk)
                yield chunk
        if file.md5 and digest.hexdigest() != file.md5:
            message = f"the pieces make a file with MD5 {digest.hexdigest()}, expected was {file.md5}"
            raise ServiceError("CHECKSUM_MISMATCH", message)


def _key(upload: uuid.UUID, piece: uuid.UUID) -> str:
    return f"pieces/{upload}/{piece}"


def _refuse_size(size_bytes: int) -> None:
    if size_bytes > MAX_PIECE_BYTES:
        raise InvalidArgument(Violation("chunk", f"a piece has 1 to {MAX_PIECE_BYTES} bytes"))
