"""Rows of blobs, the content-addressed bytes beneath datasets, artifacts and base models; all their SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.common.errors import ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.file import File, StoredFile
<<<<<<< HEAD
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
=======
from services.storage.pending_object_repository import claim, condemn
from services.storage.rows import first_row

_KNOWN = "SELECT sha256, object_key FROM storage.blob WHERE sha256 = ANY(%(sha256s)s)"
_INSERT = """
    INSERT INTO storage.blob (sha256, size_bytes, object_key) VALUES (%(sha256)s, %(size_bytes)s, %(object_key)s)
    ON CONFLICT (sha256) DO NOTHING
    RETURNING object_key"""
_HOLD = "SELECT object_key FROM storage.blob WHERE sha256 = %(sha256)s FOR KEY SHARE"
_LOCK = "SELECT sha256 FROM storage.blob WHERE sha256 = ANY(%(sha256s)s) ORDER BY sha256 FOR UPDATE"
_DROP = """
    DELETE FROM storage.blob
    WHERE sha256 = ANY(%(sha256s)s)
        AND NOT EXISTS (SELECT 1 FROM storage.dataset_file AS file WHERE file.sha256 = blob.sha256)
        AND NOT EXISTS (SELECT 1 FROM storage.artifact_file AS file WHERE file.sha256 = blob.sha256)
        AND NOT EXISTS (SELECT 1 FROM storage.base_model_file AS file WHERE file.sha256 = blob.sha256)
    RETURNING object_key"""
>>>>>>> main


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
<<<<<<< HEAD
            cursor = await connection.execute(_HOLD, {"sha256s": list(sha256s), "hold": HOLD})
=======
            cursor = await connection.execute(_KNOWN, {"sha256s": list(sha256s)})
>>>>>>> main
            return {row["sha256"]: row["object_key"] async for row in cursor}


async def add_blobs(connection: Connection, files: Sequence[File], keys: Mapping[str, str]) -> tuple[StoredFile, ...]:
    """Makes rows for contents that have none, in the caller's transaction; returns the files with the keys that count.

<<<<<<< HEAD
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
=======
    `keys` are the object keys by SHA-256 of what was uploaded or known before. When a concurrent upload of the same content was
    faster, its object is the one that counts. Raises ServiceError (UPLOAD_EXPIRED) when an object that counts is being removed.
    """
    settled: dict[str, str] = {}
    made = []
    # In sorted order: two transactions that share files must not wait for each other in a ring.
    for sha256, size_bytes in sorted({(file.sha256, file.size_bytes) for file in files}):
        settled[sha256], is_new = await _settle(connection, sha256, size_bytes, keys[sha256])
        if is_new:
            made.append(settled[sha256])
    await claim(connection, made)
    return tuple(StoredFile(file.path, file.size_bytes, file.sha256, settled[file.sha256]) for file in files)


async def drop_unused_blobs(connection: Connection, sha256s: Collection[str]) -> list[str]:
    """Removes the rows of contents nothing refers to any more, in the caller's transaction, and condemns their objects.

    Returns the keys of those.
    """
    parameters = {"sha256s": list(sha256s)}
    # An upload that is about to refer to one of them holds its row. Only a statement that begins after it sees its reference.
    await connection.execute(_LOCK, parameters)
    keys = [row["object_key"] async for row in await connection.execute(_DROP, parameters)]
    await condemn(connection, keys)
    return keys


async def _settle(connection: Connection, sha256: str, size_bytes: int, key: str) -> tuple[str, bool]:
    """The key that counts for a content, and whether its row is new; the row cannot go away before the transaction ends."""
    while True:
        row = await first_row(connection, _INSERT, {"sha256": sha256, "size_bytes": size_bytes, "object_key": key})
        if row is not None:
            return row["object_key"], True
        # Between the two statements a deletion may take the row away; then the next insert succeeds.
        row = await first_row(connection, _HOLD, {"sha256": sha256})
        if row is not None:
            return row["object_key"], False
>>>>>>> main
