"""Rows of blobs, the content-addressed bytes beneath artifacts and base models; all their SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.common.errors import ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.file import File, StoredFile
from services.storage.retention import HOLD
from services.storage.rows import first_row

# An upload that counts on a blob without sending its bytes keeps it for as long as an upload may take.
_HOLD = """
    UPDATE storage.blob SET hold_until = storage.clock() + %(hold)s WHERE sha256 = ANY(
        SELECT sha256 FROM storage.blob WHERE sha256 = ANY(%(sha256s)s) ORDER BY sha256 FOR NO KEY UPDATE
    ) RETURNING sha256, object_key"""
# Issued in sorted order: two uploads that share files must not wait for each other in a ring. The first object of a content
# counts. A row that is there is locked, so that no sweep takes it before it is referred to; an object that a sweep has condemned
# as an orphan gets no row.
_INSERT = """
    INSERT INTO storage.blob AS known (sha256, size_bytes, object_key)
    SELECT %(sha256)s, %(size_bytes)s, %(object_key)s
    WHERE NOT EXISTS (SELECT FROM storage.condemned_object WHERE object_key = %(object_key)s)
    ON CONFLICT (sha256) DO UPDATE SET hold_until = known.hold_until
    RETURNING object_key"""
_LOCK = "SELECT object_key FROM storage.blob WHERE sha256 = %(sha256)s FOR KEY SHARE"


class BlobRepository(Protocol):
    """What uploads ask about blobs."""

    async def known(self, sha256s: Collection[str]) -> Mapping[str, str]:
        """The object keys of those contents that are stored, by SHA-256; raises Unavailable (POSTGRES_UNAVAILABLE).

        They stay for a while even when nothing refers to them.
        """


class PostgresBlobRepository:
    """Blobs in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def known(self, sha256s: Collection[str]) -> dict[str, str]:
        """The object keys of those contents that are stored, by SHA-256."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_HOLD, {"sha256s": list(sha256s), "hold": HOLD})
            return {row["sha256"]: row["object_key"] async for row in cursor}


async def add_blobs(connection: Connection, files: Sequence[File], keys: Mapping[str, str]) -> tuple[StoredFile, ...]:
    """Makes rows for contents that have none, in the caller's transaction; returns the files with the keys that count.

    `keys` are the object keys by SHA-256 of what was uploaded; other contents must have rows. When a concurrent upload of the
    same content was faster, its object is the one that counts. Raises ServiceError (CONTENT_REMOVED) for a content that a sweep
    has taken meanwhile.
    """
    settled: dict[str, str] = {}
    for sha256, size_bytes in sorted({(file.sha256, file.size_bytes) for file in files}):
        blob = {"sha256": sha256, "size_bytes": size_bytes, "object_key": keys.get(sha256)}
        row = await first_row(connection, _INSERT if sha256 in keys else _LOCK, blob)
        if row is None:
            raise content_removed(sha256)
        settled[sha256] = row["object_key"]
    return tuple(StoredFile(file.path, file.size_bytes, file.sha256, settled[file.sha256]) for file in files)


def content_removed(sha256: str) -> ServiceError:
    """The error for a content that went between an upload's look at it and its commit."""
    return ServiceError("CONTENT_REMOVED", f"the content {sha256} was removed while the upload was on its way")
