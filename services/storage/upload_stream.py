"""Reads upload streams: the header that must come first, then paths and chunks; used by the servicers."""

import asyncio
import contextlib
import dataclasses
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from services.common.errors import ServiceError
from services.storage.look_ahead import LookAhead
from services.storage.upload import Digest, Item, malformed

M = TypeVar("M")
R = TypeVar("R", bound="UploadRequest")

_DRAIN_BYTES = 64 * 2**20
_DRAIN_SECONDS = 2.0


class UploadRequest(Protocol):
    """A message with `oneof payload { header, path, chunk, sha256, blake3 }`; datasets have no path, models no checksum."""

    def WhichOneof(self, oneof_group: Any, /) -> str | None:  # noqa: N802 - protobuf's name
        """Which of them is set."""


@contextlib.asynccontextmanager
async def drained(requests: AsyncIterator[M]) -> AsyncIterator[AsyncIterator[M]]:
    """The same requests, one read ahead; reads on when the block has its answer before the caller has sent everything.

    A client that is still writing when the status arrives may report its failed write instead of the status. What a big or slow
    upload sends after the limits is not waited for.
    """
    async with LookAhead(requests) as ahead:
        try:
            yield ahead
        except ServiceError:
            await _drain(ahead)
            raise
        await _drain(ahead)


async def read_header(requests: AsyncIterator[R]) -> R:
    """The first message; raises InvalidArgument (UPLOAD_MALFORMED) when it holds no header."""
    first = await anext(aiter(requests), None)
    if first is None:
        raise malformed("the stream is empty; the header comes first")
    if (kind := first.WhichOneof("payload")) != "header":
        raise malformed(f"the first message holds {kind or 'nothing'}; the header comes first")
    return first


async def read_items(requests: AsyncIterator[Any]) -> AsyncIterator[Item]:
    """What comes after the header; raises InvalidArgument (UPLOAD_MALFORMED)."""
    async for request in requests:
        match kind := request.WhichOneof("payload"):
            case "path" | "chunk":
                yield getattr(request, kind)
            case "sha256":
                yield Digest(sha256=request.sha256)
            case "blake3":
                yield Digest(blake3=request.blake3)
            case _:
                raise malformed(f"a message holds {kind or 'nothing'}; after the header come only files")


async def read_chunks(requests: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """What comes after the header of a single file; raises InvalidArgument (UPLOAD_MALFORMED) for anything but chunks."""
    async for request in requests:
        if (kind := request.WhichOneof("payload")) != "chunk":
            raise malformed(f"a message holds {kind or 'nothing'}; after the header come only chunks")
        yield request.chunk


@dataclasses.dataclass(slots=True)
class Seal:
    """What the last message of a sealed stream says besides the SHA-256; filled once the stream has been read."""

    lifetime_seconds: int | None = None
    """How long the file is to be kept; None = as the header says."""


async def read_sealed_chunks(requests: AsyncIterator[Any], last: Seal) -> AsyncIterator[bytes]:
    """As `read_chunks`, but the last message holds the SHA-256 of all of them: a stream without it was broken off.

    Raises InvalidArgument (UPLOAD_MALFORMED), ServiceError (CHECKSUM_MISMATCH).
    """
    digest, seal = hashlib.sha256(), ""
    async for request in requests:
        kind = request.WhichOneof("payload")
        if seal or kind not in ("chunk", "sha256"):
            raise malformed(f"a message holds {kind or 'nothing'}; after the header come chunks, then the SHA-256")
        if kind == "sha256":
            seal = request.sha256
            if request.HasField("late_lifetime_seconds"):
                last.lifetime_seconds = request.late_lifetime_seconds
            continue
        digest.update(request.chunk)
        yield request.chunk
    if not seal:
        raise malformed("the stream ends without the SHA-256 that was to follow")
    if seal != digest.hexdigest():
        raise ServiceError(
            "CHECKSUM_MISMATCH", f"the file arrived with SHA-256 {digest.hexdigest()}, the last message says {seal[:80]}"
        )


async def _drain(requests: AsyncIterator[Any]) -> None:
    left = _DRAIN_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for request in requests:
                left -= request.ByteSize()
                if left < 0:
                    return
