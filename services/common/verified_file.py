"""Brings a stored file to the disk and compares its checksum; used by bundles and the trainer."""

import asyncio
import os
import pathlib
from collections.abc import AsyncIterator, Callable

from services.common.errors import ServiceError
from tunesmith.checksum import Checksum


async def fetch_verified(target: pathlib.Path, checksum: Checksum, chunks: Callable[[bool], AsyncIterator[bytes]]) -> None:
    """Writes what `chunks(caller_verifies)` gives, and asks a second time when other bytes arrive than have this checksum.

    Raises ServiceError: CHECKSUM_MISMATCH, FILE_DAMAGED when storage itself has found other bytes, and what `chunks` raises.
    """
    try:
        await write_verified(target, checksum, chunks(True))
    except ServiceError as error:
        if error.reason != "CHECKSUM_MISMATCH":
            raise
        # Only storage can tell damage that is stored from damage on the way, and remember it.
        await write_verified(target, checksum, chunks(False))


async def write_verified(target: pathlib.Path, checksum: Checksum, chunks: AsyncIterator[bytes]) -> None:
    """Writes `target` all at once, when its bytes have this checksum; raises ServiceError (CHECKSUM_MISMATCH) otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}")
    comparison = checksum.begin()
    with scratch.open("wb") as out:
        async for chunk in chunks:
            comparison.update(chunk)
            await asyncio.to_thread(out.write, chunk)
        out.flush()
        await asyncio.to_thread(os.fsync, out.fileno())
    if not comparison.fits:
        raise ServiceError("CHECKSUM_MISMATCH", f"{target.name} arrived with {comparison.difference}")
    scratch.rename(target)
