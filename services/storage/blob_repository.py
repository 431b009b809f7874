"""Rows of blobs, the content-addressed bytes beneath datasets, artifacts, base models and registered models; all their SQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from services.common.postgres import Connection, Pool, transaction
from services.storage.file import File, StoredFile, stored
from services.storage.pending_object_repository import claim, condemn
from services.storage.rows import first_row

# What is damaged is not known: its bytes are taken anew.
_KNOWN = "SELECT sha256, object_key FROM storage.blob WHERE sha256 = ANY(%(sha256s)s) AND damage = ''"
_INSERT = """
    INSERT INTO storage.blob (sha256, size_bytes, object_key, blake3)
    VALUES (%(sha256)s, %(size_bytes)s, %(object_key)s, %(blake3)s)
    ON CONFLICT (sha256) DO NOTHING
    RETURNING object_key"""
_HOLD = "SELECT object_key FROM storage.blob WHERE sha256 = %(sha256)s FOR KEY SHARE"
_HEAL = """
    UPDATE storage.blob AS blob SET object_key = %(object_key)s, damage = '', check_time = storage.clock(), checking_until = NULL
    FROM (SELECT object_key FROM storage.blob WHERE sha256 = %(sha256)s FOR UPDATE) AS before
    WHERE blob.sha256 = %(sha256)s AND blob.damage <> '' AND blob.object_key <> %(object_key)s
    RETURNING before.object_key"""
_LOCK = "SELECT sha256 FROM storage.blob WHERE sha256 = ANY(%(sha256s)s) ORDER BY sha256 FOR UPDATE"
_DROP = """
    DELETE FROM storage.blob
    WHERE sha256 = ANY(%(sha256s)s)
        AND NOT EXISTS (SELECT 1 FROM storage.dataset_file AS file WHERE file.sha256 = blob.sha256)
        AND NOT EXISTS (SELECT 1 FROM storage.artifact_file AS file WHERE file.sha256 = blob.sha256)
        AND NOT EXISTS (SELECT 1 FROM storage.base_model_file AS file WHERE file.sha256 = blob.sha256)
        AND NOT EXISTS (SELECT 1 FROM storage.model_version_file AS file WHERE file.sha256 = blob.sha256)
    RETURNING object_key, size_bytes"""


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
            cursor = await connection.execute(_KNOWN, {"sha256s": list(sha256s)})
            return {row["sha256"]: row["object_key"] async for row in cursor}


async def add_blobs(connection: Connection, files: Sequence[File], keys: Mapping[str, str]) -> tuple[StoredFile, ...]:
    """Makes rows for contents that have none, in the caller's transaction; returns the files with the keys that count.

    `keys` are the object keys by SHA-256 of what was uploaded or known before. When a concurrent upload of the same content was
    faster, its object is the one that counts. Raises ServiceError (UPLOAD_EXPIRED) when an object that counts is being removed.
    """
    settled: dict[str, str] = {}
    made = []
    # In sorted order: two transactions that share files must not wait for each other in a ring.
    for file in sorted({file.sha256: file for file in files}.values(), key=lambda file: file.sha256):
        settled[file.sha256], is_new = await _settle(connection, file, keys[file.sha256])
        if is_new:
            made.append(settled[file.sha256])
    await claim(connection, made)
    return tuple(stored(file, settled[file.sha256]) for file in files)


async def drop_unused_blobs(connection: Connection, sha256s: Collection[str]) -> list[str]:
    """Removes the rows of contents nothing refers to any more, in the caller's transaction, and condemns their objects.

    Returns the keys of those.
    """
    parameters = {"sha256s": list(sha256s)}
    # An upload that is about to refer to one of them holds its row. Only a statement that begins after it sees its reference.
    await connection.execute(_LOCK, parameters)
    dropped = {row["object_key"]: row["size_bytes"] async for row in await connection.execute(_DROP, parameters)}
    await condemn(connection, dropped)
    return list(dropped)


async def _settle(connection: Connection, file: File, key: str) -> tuple[str, bool]:
    """The key that counts for a content, and whether it is `key`, new; the row cannot go away before the transaction ends.

    Bytes that lie damaged are replaced by those that have arrived.
    """
    while True:
        content = {"sha256": file.sha256, "size_bytes": file.size_bytes, "object_key": key, "blake3": file.blake3}
        row = await first_row(connection, _INSERT, content)
        if row is not None:
            return row["object_key"], True
        healed = await first_row(connection, _HEAL, {"sha256": file.sha256, "object_key": key})
        if healed is not None:
            await condemn(connection, {healed["object_key"]: file.size_bytes})
            return key, True
        # Between the two statements a deletion may take the row away; then the next insert succeeds.
        row = await first_row(connection, _HOLD, {"sha256": file.sha256})
        if row is not None:
            return row["object_key"], False
