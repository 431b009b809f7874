"""Objects that no row refers to yet; makes sure that an upload which fails leaves no bytes behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import BinaryIO, TypeVar

import structlog

from services.common.errors import Unavailable
from services.storage.object_store import ObjectStore

log = structlog.get_logger()

T = TypeVar("T")


class PendingObjects:
    """What one upload has written; made by `pending_objects`."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._keys: set[str] = set()

    async def put(self, key: str, content: BinaryIO, size_bytes: int) -> None:
        """Stores an object that is removed again unless a row comes to refer to it."""
        self._keys.add(key)
        await self._store.put(key, content, size_bytes)

    async def commit(self, work: Awaitable[T]) -> T:
        """Awaits the transaction that makes the rows; `keep` must follow.

        When its outcome stays unknown the objects stay too: bytes without a row cost space, a row without bytes is a loss.
        """
        try:
            return await work
        except (Unavailable, asyncio.CancelledError):
            self._keys.clear()
            raise

    def keep(self, keys: Iterable[str]) -> None:
        """Says which objects rows refer to now."""
        self._keys.difference_update(keys)

    async def remove(self) -> None:
        """Removes what is still pending, as far as the store lets it."""
        for key in self._keys:
            await remove_quietly(self._store, key)


@contextlib.asynccontextmanager
async def pending_objects(store: ObjectStore) -> AsyncIterator[PendingObjects]:
    """Objects put inside the block are removed at its end, however it ends, unless kept."""
    pending = PendingObjects(store)
    try:
        yield pending
    finally:
        await pending.remove()


async def remove_quietly(store: ObjectStore, key: str) -> None:
    """Removes an object no row refers to; when the store is away it stays, which costs space and nothing else."""
    try:
        await store.remove(key)
    except Unavailable as error:
        log.warning("object.orphaned", key=key, error=error.message)
