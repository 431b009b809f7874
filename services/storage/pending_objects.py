"""Objects that no row refers to yet; makes sure that an upload which fails leaves no bytes behind."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Sequence
from typing import BinaryIO, TypeVar

import structlog

from services.common.errors import ServiceError, Unavailable
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository

log = structlog.get_logger()

T = TypeVar("T")


class PendingObjects:
    """What one upload has written; made by `pending_objects`."""

    def __init__(self, store: ObjectStore, records: PendingObjectRepository) -> None:
        self.store = store
        self._records = records
        self._keys: set[str] = set()

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        """Stores an object that is removed again unless a row comes to refer to it."""
        await self.record(key, size_bytes)
        async with self.unless_taken(key):
            await self.store.put(key, content, size_bytes)

    @contextlib.asynccontextmanager
    async def unless_taken(self, key: str) -> AsyncIterator[None]:
        """Around what makes the object of a recorded key; what turns out to lie there is somebody else's and not removed."""
        try:
            yield
        except ServiceError as error:
            if error.reason == "OBJECT_EXISTS":
                log.critical("pending_objects.key_taken", key=key)
                self._keys.discard(key)
                await self._records.forget([key])
            raise

    async def record(self, key: str, size_bytes: int) -> None:
        """Says which object is about to be stored; it, or what there is of it, is removed again like one that was put."""
        await self._records.add(key, size_bytes)
        self._keys.add(key)

    async def commit(self, work: Awaitable[T]) -> T:
        """Awaits the transaction that makes the rows; `keep` must follow.

        When its outcome stays unknown the objects stay too: a row without bytes is a loss. The sweeper finds out later.
        """
        try:
            return await work
        except BaseException as error:
            # Only a refusal says that nothing was committed; whatever else broke may have broken behind the commit.
            if isinstance(error, Unavailable) or not isinstance(error, ServiceError):
                self._keys.clear()
            raise

    def keep(self, keys: Iterable[str]) -> None:
        """Says which objects rows refer to now."""
        self._keys.difference_update(keys)

    async def remove(self) -> None:
        """Removes what is still pending, as far as the store lets it."""
        if self._keys:
            await remove_objects(self.store, self._records, self._keys)


@contextlib.asynccontextmanager
async def pending_objects(store: ObjectStore, records: PendingObjectRepository) -> AsyncIterator[PendingObjects]:
    """Objects put inside the block are removed at its end, however it ends, unless kept."""
    pending = PendingObjects(store, records)
    try:
        yield pending
    finally:
        await pending.remove()


async def remove_objects(store: ObjectStore, records: PendingObjectRepository, keys: Collection[str]) -> Sequence[str]:
    """Removes recorded objects no row refers to, then their records; what cannot be removed now is left to the sweeper.

    Returns the keys of those that are gone.
    """
    removed = await _removed(store, keys)
    try:
        await records.forget(removed)
    except Unavailable as error:
        log.warning("pending_objects.kept", count=len(removed), error=error.message)
        return []
    return removed


async def _removed(store: ObjectStore, keys: Collection[str]) -> list[str]:
    removed: list[str] = []
    for key in sorted(keys):
        try:
            await store.remove(key)
        except Unavailable as error:
            # A store that is away would make every other object wait for its timeout, too.
            log.warning("pending_objects.left", removed=len(removed), left=len(keys) - len(removed), error=error.message)
            break
        removed.append(key)
    return removed
