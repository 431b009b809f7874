"""Files that go on to the object store while the rest of them still arrives; used by uploads of several files."""

import asyncio
import contextlib
import mmap
import uuid
from collections.abc import AsyncIterator, Callable

from services.common.blocking import in_thread
from services.storage.file import File
from services.storage.object_store import ObjectStore, part_bytes
from services.storage.passage import Arrival
from services.storage.pending_objects import PendingObjects

_PARTS_AT_ONCE = 2
"""One alone waits for its answers half of the time; more would take more memory."""


class Forwarding:
    """The files of one upload, one after the other; made by `forwarding`.

    An object appears only when its file is finished, which is said of files that have proved to be what was declared.
    """

    def __init__(self, pending: PendingObjects, new_id: Callable[[], uuid.UUID]) -> None:
        self._pending = pending
        self._new_id = new_id
        self._parts: _Parts | None = None

    async def advance(self, file: File, spool: Arrival) -> None:
        """Sends what has arrived, in whole parts; raises Unavailable, also for a part that was sent before."""
        if self._parts is None:
            if spool.size_bytes < part_bytes(file.size_bytes):
                return
            key = self._new_key()
            await self._pending.record(key, file.size_bytes)
            self._parts = _Parts(self._pending.store, key, file.size_bytes)
        await self._parts.advance(spool)

    async def finish(self, file: File, spool: Arrival) -> str:
        """Sends the rest of a file that is whole and makes the object appear; returns its key. Raises Unavailable."""
        if self._parts is None:
            key = self._new_key()
            await self._pending.put(key, spool.content(), file.size_bytes)
            return key
        async with self._pending.unless_taken(self._parts.key):
            await self._parts.finish(spool)
        key, self._parts = self._parts.key, None
        return key

    async def drop(self) -> None:
        """Forgets a file that is stored already; what was sent of it is left to `pending` to remove."""
        await self.stop()
        self._parts = None

    async def stop(self) -> None:
        """Returns when nothing is read or sent any more."""
        if self._parts is not None:
            await self._parts.stop()

    def _new_key(self) -> str:
        return f"blobs/{self._new_id()}"


@contextlib.asynccontextmanager
async def forwarding(pending: PendingObjects, new_id: Callable[[], uuid.UUID]) -> AsyncIterator[Forwarding]:
    """Inside the block files may be sent; what is not finished at its end is left to `pending` to remove."""
    forward = Forwarding(pending, new_id)
    try:
        yield forward
    finally:
        await forward.stop()


class _Parts:
    """One object. Parts are sent while the next ones arrive, a few at a time, which are all that is in memory."""

    def __init__(self, store: ObjectStore, key: str, size_bytes: int) -> None:
        self.key = key
        self._store = store
        self._size_bytes = size_bytes
        self._part_bytes = part_bytes(size_bytes)
        self._multipart_id = ""
        self._begun_bytes = 0
        self._parts: list[asyncio.Task[str]] = []
        # Used again by the next part; of the heap, threads would keep a few times over what they have freed.
        self._buffers: list[mmap.mmap] = []

    async def advance(self, spool: Arrival) -> None:
        while self._begun_bytes + self._part_bytes <= spool.size_bytes:
            await self._begin(spool, self._part_bytes)

    async def finish(self, spool: Arrival) -> None:
        await self.advance(spool)
        if rest := self._size_bytes - self._begun_bytes:
            await self._begin(spool, rest)
        await self._settle(0)
        await self._store.complete_parts(self.key, self._multipart_id, [part.result() for part in self._parts])

    async def stop(self) -> None:
        """Whatever became of the parts, the upload has failed before."""
        await asyncio.gather(*self._parts, return_exceptions=True)

    async def _begin(self, spool: Arrival, size_bytes: int) -> None:
        await self._settle(_PARTS_AT_ONCE - 1)
        self._multipart_id = self._multipart_id or await self._store.begin_parts(self.key)
        buffer = self._buffers.pop() if self._buffers else mmap.mmap(-1, self._part_bytes)
        await in_thread(spool.read_into, memoryview(buffer)[:size_bytes], self._begun_bytes)
        sending = self._send(buffer, len(self._parts) + 1, size_bytes)
        self._parts.append(asyncio.create_task(sending))
        self._begun_bytes += size_bytes

    async def _send(self, buffer: mmap.mmap, number: int, size_bytes: int) -> str:
        mark = await self._store.put_part(self.key, self._multipart_id, number, memoryview(buffer)[:size_bytes])
        self._buffers.append(buffer)
        return mark

    async def _settle(self, most: int) -> None:
        """Waits until at most so many are under way; raises what one has raised."""
        while under_way := [part for part in self._parts if not part.done()]:
            if len(under_way) <= most:
                break
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for part in self._parts:
            if part.done():
                part.result()
