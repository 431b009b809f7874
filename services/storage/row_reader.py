"""Reads a few rows out of the middle of a big file; used by the preview."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

from services.storage.file import StoredFile
from services.storage.object_store import ObjectStore

_BLANK = b" \t\r"
_MARK = b"\xef\xbb\xbf"


async def read_rows(store: ObjectStore, file: StoredFile, offset: int, skip: int, count: int) -> list[bytes]:
    """At most `count` rows, after `skip` rows behind `offset`, without line ends; reads no further than it must.

    Raises Unavailable (OBJECT_STORE_UNAVAILABLE).
    """
    rows: list[bytes] = []
    chunks = cast(AsyncGenerator[bytes], store.read(file.object_key, offset, file.size_bytes))
    async with contextlib.aclosing(chunks):
        async for row in _rows(chunks):
            if skip > 0:
                skip -= 1
            elif len(rows) < count:
                rows.append(row)
            if len(rows) == count:
                break
    return rows


async def _rows(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines that are not blank. Files stored before there were several formats may hold blank ones, and a byte order mark."""
    rest: list[bytes] = []
    async for chunk in chunks:
        *ends, tail = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*rest, end)).removeprefix(_MARK).strip(_BLANK)
            rest.clear()
            if line:
                yield line
        rest.append(tail)
    if line := b"".join(rest).removeprefix(_MARK).strip(_BLANK):
        yield line
