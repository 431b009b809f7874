"""The upload of several files: for each declared one in order its path, then its chunks; used for artifacts and base models.

A file that is declared without its SHA-256 has a checksum behind its chunks: whoever sends computes it meanwhile. Large files go
on to the object store while they arrive; an object appears there only when size and checksum are as declared. Files that somebody
looks into pass through one temporary file at a time, the others through memory alone.
"""

import collections
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import BinaryIO, Self

from services.common.blocking import in_thread
from services.common.errors import InvalidArgument, ServiceError, Violation
from services.storage.blob_repository import BlobRepository
from services.storage.file import File
from services.storage.forwarding import Forwarding, forwarding
from services.storage.passage import Arrival, Passage
from services.storage.pending_objects import PendingObjects
from services.storage.spool import Spool


@dataclasses.dataclass(frozen=True, slots=True)
class Digest:
    """What a stream says behind the chunks of a file, lower-case hexadecimal: one of the two."""

    sha256: str = ""
    blake3: str = ""


Item = str | bytes | Digest
"""Of a stream of files: a path, a chunk, or a checksum of the chunks before."""

Inspect = Callable[[File, BinaryIO], None]
"""Looks at a file that arrived whole, from its start; raises ServiceError to refuse it."""


class FileUpload:
    """Takes the files of one upload into the object store."""

    def __init__(self, blobs: BlobRepository, new_id: Callable[[], uuid.UUID], *, inspect: Inspect | None = None) -> None:
        self._blobs = blobs
        self._new_id = new_id
        self._inspect = inspect

    async def receive(
        self, declared: Sequence[File], items: AsyncIterator[Item], pending: PendingObjects
    ) -> tuple[tuple[File, ...], dict[str, str]]:
        """Stores what the object store lacks and returns the files, all with their checksums, and the object keys by SHA-256.

        Raises UPLOAD_MALFORMED, CHECKSUM_MISMATCH, DISK_FULL, Unavailable and what `inspect` raises.
        """
        keys = dict(await self._blobs.known({file.sha256 for file in declared if file.sha256}))

        def begin(file: File) -> Arrival:
            if self._inspect is not None:
                return Spool()
            return Spool(keep=False) if file.sha256 in keys else Passage()

        with ExpectedFiles(declared, begin) as expected:
            async with forwarding(pending, self._new_id) as forward:
                async for item in items:
                    arrived = await in_thread(expected.accept, item)
                    if arrived is not None:
                        if isinstance(item, Digest):
                            keys |= await self._blobs.known({arrived.sha256})
                        await self._store(arrived, expected.spool, keys, forward)
                    elif expected.arriving is not None and expected.arriving.sha256 not in keys:
                        await forward.advance(expected.arriving, expected.spool)
                return expected.finish(), keys

    async def _store(self, file: File, spool: Arrival, keys: dict[str, str], forward: Forwarding) -> None:
        if self._inspect is not None:
            await in_thread(self._inspect, file, spool.content())
        if file.sha256 in keys:
            await forward.drop()
        else:
            keys[file.sha256] = await forward.finish(file, spool)


class ExpectedFiles:
    """The order of an upload as a state machine: which path or chunk may come now, and whether a file is whole.

    Not for the event loop: it writes to disk and computes checksums. Close it by `with`.
    """

    def __init__(self, declared: Sequence[File], begin: Callable[[File], Arrival]) -> None:
        self._arrival_of = begin
        self._waiting = collections.deque(declared)
        self._arrived: list[File] = []
        self._file: File | None = None
        self._resources = contextlib.ExitStack()
        self._spool: Arrival | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def accept(self, item: Item) -> File | None:
        """Takes what comes next; returns the file that is whole and verified by it, if any, with its checksums.

        Raises ServiceError (UPLOAD_MALFORMED, CHECKSUM_MISMATCH, DISK_FULL).
        """
        if isinstance(item, Digest):
            self._seal(item)
        elif isinstance(item, str):
            self._begin(item)
        elif item:
            self._append(item)
        else:
            return None
        return self._whole()

    @property
    def arriving(self) -> File | None:
        """The file of which some has come, or nothing yet, and more is to come."""
        return self._file

    @property
    def spool(self) -> Arrival:
        """What has come of the file that is arriving, or has arrived last."""
        assert self._spool is not None, "no file has come"
        return self._spool

    def finish(self) -> tuple[File, ...]:
        """All files; raises ServiceError when the stream has ended too early."""
        self._require_end()
        if self._waiting:
            raise malformed(f"the stream ended before {self._waiting[0].path}; {len(self._waiting)} declared files are missing")
        return tuple(self._arrived)

    def _begin(self, path: str) -> None:
        self._require_end()
        if not self._waiting:
            raise malformed(f"path {path[:80]!r} comes after the last declared file")
        if path != self._waiting[0].path:
            raise malformed(f"path {path[:80]!r} came, expected {self._waiting[0].path!r}; files come in the declared order")
        self._file = self._waiting.popleft()
        self._resources.close()
        self._spool = self._arrival_of(self._file)
        self._resources.enter_context(self._spool)

    def _append(self, chunk: bytes) -> None:
        if self._file is None or self._spool is None:
            if self._spool is None:
                raise malformed("a chunk came before the path of its file")
            raise malformed("a chunk came after the declared end of its file; the next path was expected")
        if self._size() + len(chunk) > self._file.size_bytes:
            raise _mismatch(self._file, f"is longer than the declared {self._file.size_bytes} bytes")
        self._spool.write(chunk)

    def _seal(self, digest: Digest) -> None:
        if self._file is None or _told(self._file):
            raise malformed("a checksum came; it follows the chunks of a file that was declared without one, and comes once")
        self._require_size(self._file)
        self._file = dataclasses.replace(self._file, sha256=digest.sha256, blake3=digest.blake3)

    def _require_end(self) -> None:
        if self._file is not None:
            self._require_size(self._file)
            raise malformed(f"the SHA-256 of {self._file.path} was not declared, and no checksum followed its chunks")

    def _require_size(self, file: File) -> None:
        if self._size() < file.size_bytes:
            raise _mismatch(file, f"ended after {self._size()} of {file.size_bytes} bytes")

    def _whole(self) -> File | None:
        file, spool = self._file, self._spool
        if file is None or spool is None or spool.size_bytes < file.size_bytes or not _told(file):
            return None
        arrived = dataclasses.replace(file, sha256=spool.digests.sha256, blake3=spool.digests.blake3)
        _require_same(arrived, file)
        self._file = None
        self._arrived.append(arrived)
        return arrived

    def _size(self) -> int:
        return self._spool.size_bytes if self._spool else 0


def malformed(message: str) -> InvalidArgument:
    """The error for a stream whose messages are not in the agreed order."""
    return InvalidArgument(Violation("payload", message), reason="UPLOAD_MALFORMED")


def _told(file: File) -> bool:
    return bool(file.sha256 or file.blake3)


def _require_same(arrived: File, told: File) -> None:
    if told.sha256 not in ("", arrived.sha256):
        raise _mismatch(told, f"arrived with SHA-256 {arrived.sha256}, declared was {told.sha256[:80]}")
    if told.blake3 not in ("", arrived.blake3):
        raise _mismatch(told, f"arrived with BLAKE3 {arrived.blake3}, declared was {told.blake3[:80]}")


def _mismatch(file: File, what: str) -> ServiceError:
    return ServiceError("CHECKSUM_MISMATCH", f"{file.path} {what}", metadata={"path": file.path})
