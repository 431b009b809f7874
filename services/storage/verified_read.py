"""The bytes of a stored file on their way to a caller, compared with its checksum; used by downloads and by the archive."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from grpc.aio import ServicerContext

from services.common.errors import ServiceError, Unavailable
from services.storage.file import StoredFile
from services.storage.object_store import ObjectStore
from services.storage.scrub import StoredContent
from services.storage.scrub_repository import ScrubRepository
from services.storage.scrubber import CHANGED, report_damage
from tunesmith.checksum import Checksum

TRAILER = "content-sha256"
"""Trailing metadata: SHA-256 of the bytes this answer has sent; where the caller verifies, what the whole file has to have."""


class VerifiedRead:
    """Sends files, and refuses what is damaged."""

    def __init__(self, store: ObjectStore, scrubs: ScrubRepository) -> None:
        self._store = store
        self._scrubs = scrubs

    async def read(
        self,
        file: StoredFile,
        owner: str,
        offset: int,
        context: ServicerContext[Any, Any],
        *,
        caller_verifies: bool = False,
    ) -> AsyncIterator[bytes]:
        """The bytes from `offset` on, and their SHA-256 in the trailer; where the caller verifies, nothing is computed here.

        Raises ServiceError (FILE_DAMAGED) before the first byte when damage is known. Damage that a read from the start meets is
        told at its end, and recorded for all others. Raises Unavailable, also for bytes that had changed only on their way here.
        """
        if file.damage:
            raise damaged(file, owner, file.damage)
        whole, rest = Checksum.of(file).begin(), hashlib.sha256()
        digest = None if caller_verifies else rest if offset else whole
        async for chunk in self._store.read(file.object_key, offset, file.size_bytes):
            if digest is not None:
                digest.update(chunk)
            yield chunk
        if digest is whole and not whole.fits:
            await self._judge(file)
            raise damaged(file, owner, CHANGED)
        sent = rest.hexdigest() if digest is rest else file.sha256
        context.set_trailing_metadata((*(context.trailing_metadata() or ()), (TRAILER, sent)))

    async def whole(self, file: StoredFile, owner: str, hint: str) -> bytes:
        """All bytes of a small file; raises as `read` does, with `hint` for damage, and returns nothing that is damaged."""
        if file.damage:
            raise damaged(file, owner, file.damage, hint)
        content = b"".join([chunk async for chunk in self._store.read(file.object_key, 0, file.size_bytes)])
        if not Checksum.of(file).fits(content):
            await self._judge(file)
            raise damaged(file, owner, CHANGED, hint)
        return content

    async def _judge(self, file: StoredFile) -> None:
        """Records damage that is met again; raises Unavailable when the bytes had only changed on their way here."""
        comparison = Checksum.of(file).begin()
        async for chunk in self._store.read(file.object_key, 0, file.size_bytes):
            comparison.update(chunk)
        if comparison.fits:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", f"the S3 server has sent {file.path} with other bytes than it stores")
        await report_damage(self._scrubs, StoredContent(file.sha256, file.size_bytes, file.object_key), CHANGED)


def damaged(file: StoredFile, owner: str, damage: str, hint: str = "") -> ServiceError:
    """The error for stored bytes that are not what they were; an empty hint is the catalogue's."""
    message = f"{file.path} of {owner} lies damaged in the object store: {damage}"
    return ServiceError("FILE_DAMAGED", message, hint=hint, metadata={"resource": owner, "path": file.path})
