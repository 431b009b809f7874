"""Segments of events: rows in Postgres, bytes in the object store; used by the archive's servicer."""

import hashlib
import io
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Pool, transaction
from services.storage.object_store import ObjectStore
from services.storage.pending_object_repository import PendingObjectRepository, claim, condemn
from services.storage.pending_objects import pending_objects

_FIND = "SELECT object_key, size_bytes FROM storage.event_segment WHERE task = %(task)s AND sha256 = %(sha256)s"
_INSERT = """
    INSERT INTO storage.event_segment (task, sha256, size_bytes, object_key)
    VALUES (%(task)s, %(sha256)s, %(size_bytes)s, %(key)s) ON CONFLICT DO NOTHING RETURNING object_key"""
_DELETE = "DELETE FROM storage.event_segment WHERE task = %(task)s RETURNING object_key, size_bytes"


class EventArchive:
    """Every method raises Unavailable (POSTGRES_UNAVAILABLE, OBJECT_STORE_UNAVAILABLE). `new_id` makes the keys of objects."""

    def __init__(
        self, pool: Pool, store: ObjectStore, pending: PendingObjectRepository, new_id: Callable[[], uuid.UUID] = uuid.uuid4
    ) -> None:
        self._pool = pool
        self._store = store
        self._pending = pending
        self._new_id = new_id

    async def put(self, task: uuid.UUID, sha256: str, content: bytes) -> None:
        """Keeps the bytes; a repeat stores nothing. Raises ServiceError (CHECKSUM_MISMATCH, UPLOAD_EXPIRED)."""
        _verify(task, sha256, content)
        if await self._find(task, sha256):
            return
        async with pending_objects(self._store, self._pending) as pending:
            key = f"events/{self._new_id()}"
            await pending.put(key, io.BytesIO(content), len(content))
            if await pending.commit(self._commit(task, sha256, key, len(content))):
                pending.keep([key])

    async def get(self, task: uuid.UUID, sha256: str) -> bytes:
        """The bytes; raises NotFound (FILE_NOT_FOUND) and ServiceError (CHECKSUM_MISMATCH)."""
        row = await self._find(task, sha256)
        if row is None:
            raise NotFound("FILE_NOT_FOUND", sha256, message=f"tasks/{task} has no segment of events {sha256}")
        content = b"".join([chunk async for chunk in self._store.read(row["object_key"], 0, row["size_bytes"])])
        _verify(task, sha256, content)
        return content

    async def delete(self, task: uuid.UUID) -> None:
        """Gives the task's bytes to the sweeper."""
        async with transaction(self._pool) as connection:
            rows = await (await connection.execute(_DELETE, {"task": task})).fetchall()
            await condemn(connection, {row["object_key"]: row["size_bytes"] for row in rows})

    async def _commit(self, task: uuid.UUID, sha256: str, key: str, size_bytes: int) -> bool:
        """Whether it was the first."""
        async with transaction(self._pool) as connection:
            parameters = {"task": task, "sha256": sha256, "size_bytes": size_bytes, "key": key}
            is_first = await (await connection.execute(_INSERT, parameters)).fetchone() is not None
            if is_first:
                await claim(connection, [key])
        return is_first

    async def _find(self, task: uuid.UUID, sha256: str) -> Mapping[str, Any] | None:
        async with transaction(self._pool) as connection:
            return await (await connection.execute(_FIND, {"task": task, "sha256": sha256})).fetchone()


def _verify(task: uuid.UUID, sha256: str, content: bytes) -> None:
    if (actual := hashlib.sha256(content).hexdigest()) != sha256:
        message = f"a segment of tasks/{task} has the SHA-256 {actual}, not {sha256}"
        raise ServiceError("CHECKSUM_MISMATCH", message)
