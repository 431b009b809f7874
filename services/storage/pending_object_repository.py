"""Rows of objects that no other row refers to yet; all their SQL. Used by uploads, by deletion and by the sweeper.

An object is recorded before it is written. `claim` ends that in the transaction that makes rows refer to it; whatever else
happens, a kill included, the record stays and the sweeper removes the object.
"""

import datetime
from collections.abc import Collection, Sequence
from typing import Protocol

from services.common.errors import ServiceError
from services.common.postgres import Connection, Pool, transaction

_INSERT = "INSERT INTO storage.pending_object (object_key) VALUES (%(key)s)"
_CLAIM = """
    DELETE FROM storage.pending_object WHERE object_key = ANY(%(keys)s) AND NOT removing RETURNING object_key"""
_CONDEMN = """
    INSERT INTO storage.pending_object (object_key, removing) SELECT unnest(%(keys)s::text[]), true
    ON CONFLICT (object_key) DO UPDATE SET removing = true"""
_FORGET = "DELETE FROM storage.pending_object WHERE object_key = ANY(%(keys)s)"
_TAKE = """
    UPDATE storage.pending_object SET removing = true
    WHERE object_key IN (
        SELECT object_key FROM storage.pending_object
        WHERE removing OR create_time <= now() - %(lifetime)s
        ORDER BY create_time
        LIMIT %(limit)s
    )
    RETURNING object_key"""


class PendingObjectRepository(Protocol):
    """What uploads and the sweeper ask. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def add(self, key: str) -> None:
        """Records an object that is about to be written."""

    async def forget(self, keys: Collection[str]) -> None:
        """Says that the objects are removed."""

    async def take_expired(self, limit: int) -> Sequence[str]:
        """At most `limit` objects that no row will ever refer to: older than an upload may be, or condemned."""


class PostgresPendingObjectRepository:
    """Records in the schema `storage`; an upload may take `lifetime`, by the clock of the database."""

    def __init__(self, pool: Pool, lifetime: datetime.timedelta) -> None:
        self._pool = pool
        self._lifetime = lifetime

    async def add(self, key: str) -> None:
        """Records an object that is about to be written."""
        async with transaction(self._pool) as connection:
            await connection.execute(_INSERT, {"key": key})

    async def forget(self, keys: Collection[str]) -> None:
        """Says that the objects are removed."""
        async with transaction(self._pool) as connection:
            await connection.execute(_FORGET, {"keys": list(keys)})

    async def take_expired(self, limit: int) -> list[str]:
        """At most `limit` objects that no row will ever refer to."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_TAKE, {"lifetime": self._lifetime, "limit": limit})
            return [row["object_key"] async for row in cursor]


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


async def condemn(connection: Connection, keys: Collection[str]) -> None:
    """Gives objects to the sweeper in the caller's transaction; no row can refer to them any more."""
    await connection.execute(_CONDEMN, {"keys": list(keys)})
