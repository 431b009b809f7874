"""Rows of segments of events, and all their SQL; used by the archive."""

import uuid
from typing import Protocol

from services.common.postgres import Pool, transaction
from services.storage.file import StoredFile
from services.storage.pending_object_repository import claim, condemn
from services.storage.rows import first_row

_FIND = """
    SELECT 'events/' || sha256 AS path, size_bytes, sha256, object_key, damage FROM storage.event_segment
    WHERE task = %(task)s AND sha256 = %(sha256)s"""
_INSERT = """
    INSERT INTO storage.event_segment (task, sha256, size_bytes, object_key)
    VALUES (%(task)s, %(sha256)s, %(size_bytes)s, %(object_key)s) ON CONFLICT DO NOTHING RETURNING object_key"""
_DELETE_DAMAGED = """
    DELETE FROM storage.event_segment WHERE task = %(task)s AND sha256 = %(sha256)s AND damage <> ''
    RETURNING object_key, size_bytes"""
_DELETE = "DELETE FROM storage.event_segment WHERE task = %(task)s RETURNING object_key, size_bytes"


class EventSegmentRepository(Protocol):
    """What the archive asks. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def find(self, task: uuid.UUID, sha256: str) -> StoredFile | None:
        """The segment of a task, `events/` and its SHA-256 as its path; None = there is none."""

    async def add(self, task: uuid.UUID, segment: StoredFile) -> bool:
        """Whether its object is the one that counts: it is new, or what was there lies damaged and goes to the sweeper."""

    async def delete(self, task: uuid.UUID) -> None:
        """Forgets the segments of a task and gives their bytes to the sweeper."""


class PostgresEventSegmentRepository:
    """Segments in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, task: uuid.UUID, sha256: str) -> StoredFile | None:
        """The segment of a task."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _FIND, {"task": task, "sha256": sha256})
        return StoredFile(**row) if row else None

    async def add(self, task: uuid.UUID, segment: StoredFile) -> bool:
        """Whether its object is the one that counts."""
        parameters = {
            "task": task,
            "sha256": segment.sha256,
            "size_bytes": segment.size_bytes,
            "object_key": segment.object_key,
        }
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(_DELETE_DAMAGED, parameters)).fetchall()
            await condemn(connection, {row["object_key"]: row["size_bytes"] for row in rows})
            counts = await first_row(connection, _INSERT, parameters) is not None
            if counts:
                await claim(connection, [segment.object_key])
        return counts

    async def delete(self, task: uuid.UUID) -> None:
        """Forgets the segments of a task."""
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(_DELETE, {"task": task})).fetchall()
            await condemn(connection, {row["object_key"]: row["size_bytes"] for row in rows})
