"""Rows of objects that no other row refers to yet; all their SQL. Used by uploads, by deletion and by the sweeper.

An object is recorded before it is written. `claim` ends that in the transaction that makes rows refer to it; whatever else
happens, a kill included, the record stays and the sweeper removes the object.
"""

import datetime
from collections.abc import Collection, Mapping
from typing import Protocol

from services.common.errors import ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.sweep import StoredObject

_INSERT = "INSERT INTO storage.pending_object (object_key, size_bytes) VALUES (%(key)s, %(size_bytes)s)"
_CLAIM = """
    DELETE FROM storage.pending_object WHERE object_key = ANY(%(keys)s) AND NOT removing RETURNING object_key"""
_CONDEMN = """
    INSERT INTO storage.pending_object (object_key, size_bytes, removing)
    SELECT object_key, size_bytes, true FROM unnest(%(keys)s::text[], %(sizes)s::bigint[]) AS condemned (object_key, size_bytes)
    ON CONFLICT (object_key) DO UPDATE SET removing = true"""
_FORGET = "DELETE FROM storage.pending_object WHERE object_key = ANY(%(keys)s)"
# A record that is locked is being claimed or forgotten.
_TAKE = """
    WITH due AS (
        SELECT object_key FROM storage.pending_object
        WHERE removing OR create_time <= storage.clock() - %(lifetime)s
        ORDER BY create_time, object_key
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE storage.pending_object SET removing = true
    WHERE object_key IN (SELECT object_key FROM due)
    RETURNING object_key, size_bytes, create_time"""


class PendingObjectRepository(Protocol):
    """What uploads and the sweeper ask. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def add(self, key: str, size_bytes: int) -> None:
        """Records an object that is about to be written."""

    async def forget(self, keys: Collection[str]) -> None:
        """Says that the objects are removed."""


class PostgresPendingObjectRepository:
    """Records in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, key: str, size_bytes: int) -> None:
        """Records an object that is about to be written."""
        async with transaction(self._pool) as connection:
            await connection.execute(_INSERT, {"key": key, "size_bytes": size_bytes})

    async def forget(self, keys: Collection[str]) -> None:
        """Says that the objects are removed."""
        async with transaction(self._pool) as connection:
            await connection.execute(_FORGET, {"keys": list(keys)})


async def claim(connection: Connection, keys: Collection[str]) -> None:
    """Ends the records of objects to which rows of the caller's transaction refer from now on.

    Raises ServiceError (UPLOAD_EXPIRED) when one is being removed or is gone.
    """
    cursor = await connection.execute(_CLAIM, {"keys": list(keys)})
    claimed = {row["object_key"] async for row in cursor}
    refuse_unclaimed(keys, claimed)


def refuse_unclaimed(keys: Collection[str], claimed: Collection[str]) -> None:
    """Raises ServiceError (UPLOAD_EXPIRED) unless everything was claimed."""
    if lost := sorted(set(keys) - set(claimed)):
        raise ServiceError("UPLOAD_EXPIRED", f"{len(lost)} of the upload's objects were removed before it ended")


async def condemn(connection: Connection, sizes: Mapping[str, int]) -> None:
    """Gives objects, sizes in bytes by key, to the sweeper in the caller's transaction; no row can refer to them any more."""
    await connection.execute(_CONDEMN, {"keys": list(sizes), "sizes": list(sizes.values())})


async def take_due(connection: Connection, lifetime: datetime.timedelta, limit: int) -> tuple[StoredObject, ...]:
    """At most `limit` objects that no row will ever refer to: condemned, or older than the `lifetime` of an upload; oldest first.

    Once the caller's transaction has committed, none of them can be claimed.
    """
    rows = await (await connection.execute(_TAKE, {"lifetime": lifetime, "limit": limit})).fetchall()
    rows.sort(key=lambda row: (row["create_time"], row["object_key"]))
    return tuple(StoredObject(row["object_key"], row["size_bytes"]) for row in rows)
