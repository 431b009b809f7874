"""Rows of blobs, the content-addressed bytes beneath artifacts and base models; all their SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.common.postgres import Connection, Pool, transaction
from services.storage.file import File, StoredFile

_KNOWN = "SELECT sha256, object_key FROM storage.blob WHERE sha256 = ANY(%(sha256s)s)"
# Issued in sorted order: two uploads that share files must not wait for each other in a ring.
_INSERT = """
    INSERT INTO storage.blob (sha256, size_bytes, object_key) VALUES (%(sha256)s, %(size_bytes)s, %(object_key)s)
    ON CONFLICT (sha256) DO NOTHING"""


class BlobRepository(Protocol):
    """What uploads ask about blobs."""

    async def known(self, sha256s: Collection[str]) -> Mapping[str, str]:
        """The object keys of those contents that are stored, by SHA-256; raises Unavailable (POSTGRES_UNAVAILABLE)."""


class PostgresBlobRepository:
    """Blobs in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def known(self, sha256s: Collection[str]) -> dict[str, str]:
        """The object keys of those contents that are stored, by SHA-256."""
        async with transaction(self._pool) as connection:
            return await _keys(connection, sha256s)


async def add_blobs(connection: Connection, files: Sequence[File], keys: Mapping[str, str]) -> tuple[StoredFile, ...]:
    """Makes rows for contents that have none, in the caller's transaction; returns the files with the keys that count.

    `keys` are the object keys by SHA-256 of what was uploaded or known before. When a concurrent upload of the same content was
    faster, its object is the one that counts.
    """
    for sha256, size_bytes in sorted({(file.sha256, file.size_bytes) for file in files}):
        await connection.execute(_INSERT, {"sha256": sha256, "size_bytes": size_bytes, "object_key": keys[sha256]})
    settled = await _keys(connection, {file.sha256 for file in files})
    return tuple(StoredFile(file.path, file.size_bytes, file.sha256, settled[file.sha256]) for file in files)


async def _keys(connection: Connection, sha256s: Collection[str]) -> dict[str, str]:
    cursor = await connection.execute(_KNOWN, {"sha256s": list(sha256s)})
    return {row["sha256"]: row["object_key"] async for row in cursor}
