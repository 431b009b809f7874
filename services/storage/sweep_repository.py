"""The rows a sweep reads and writes; all their SQL. Used by the sweeper.

A sweep decides in one transaction, which never waits for a row: what is locked is in use, and the next sweep comes. A dry run is
that same transaction, rolled back.
"""

import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, LiteralString, Protocol

from services.common.errors import ServiceError
from services.common.postgres import Connection, Pool, session, transaction
from services.storage.blob_repository import drop_unused_blobs
from services.storage.notice_repository import announce_expiring
from services.storage.part_upload_repository import drop_expired_uploads
from services.storage.pending_object_repository import condemn, take_due
from services.storage.retention import HOLD, ORPHAN_WAIT, Policy, ahead
from services.storage.rows import first_row
from services.storage.sweep import Ending, Needed, StoredObject, Sweep

# Any constant will do as long as every replica uses the same one.
SWEEP_LOCK = 7_163_912_205
_EXPIRE = """
    WITH due AS (
        SELECT id FROM storage.artifact WHERE state = 'AVAILABLE' AND due_time <= storage.clock()
        ORDER BY due_time, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), done AS (
        UPDATE storage.artifact SET state = 'EXPIRED', delete_time = storage.clock() + %(grace)s
        WHERE id IN (SELECT id FROM due) RETURNING id, expire_time
    ), audit AS (
        INSERT INTO storage.artifact_audit (artifact, action, actor, expire_time)
        SELECT id, 'EXPIRE', 'sweeper', expire_time FROM done
    )
    SELECT id FROM done ORDER BY id"""
_DELETE = """
    WITH due AS (
        SELECT id FROM storage.artifact WHERE state = 'EXPIRED' AND due_time <= storage.clock()
        ORDER BY due_time, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), done AS (
        UPDATE storage.artifact SET state = 'DELETED', delete_time = storage.clock()
        WHERE id IN (SELECT id FROM due) RETURNING id, expire_time
    ), files AS (
        DELETE FROM storage.artifact_file WHERE artifact IN (SELECT id FROM done) RETURNING artifact, sha256
    ), audit AS (
        INSERT INTO storage.artifact_audit (artifact, action, actor, expire_time)
        SELECT id, 'DELETE', 'sweeper', expire_time FROM done
    )
    SELECT id, ARRAY(SELECT sha256 FROM files WHERE artifact = id) AS contents FROM done ORDER BY id"""
# A checkpoint that was in use: a live task may start from it, and the next commit supersedes what nobody holds.
_ENDING = """
    SELECT id AS artifact, task, kind FROM storage.artifact
    WHERE state = 'AVAILABLE' AND (due_time <= storage.clock() + %(horizon)s
        OR (kind = 'CHECKPOINT' AND hold_until BETWEEN storage.clock() - %(horizon)s AND storage.clock() + %(hold)s))"""
_KEEP = """
    WITH done AS (
        UPDATE storage.artifact
        SET expire_time = storage.clock() + greatest(coalesce(retention, %(retention)s), 2 * %(horizon)s::interval)
        WHERE state = 'AVAILABLE' AND due_time <= storage.clock() + %(horizon)s
            AND (id = ANY(%(origins)s) OR (kind = 'CHECKPOINT' AND task = ANY(%(tasks)s)))
        RETURNING id, expire_time
    )
    INSERT INTO storage.artifact_audit (artifact, action, actor, reason, expire_time)
    SELECT id, 'EXTEND', 'sweeper', 'a live task needs it', expire_time FROM done"""
_HOLD = """
    UPDATE storage.artifact SET hold_until = greatest(hold_until, storage.clock() + %(hold)s)
    WHERE state = 'AVAILABLE' AND (id = ANY(%(unsure)s) OR (kind = 'CHECKPOINT' AND id = ANY(%(origins)s)))"""
_STRAY = """
    SELECT found.key AS object_key, found.size_bytes
    FROM unnest(%(keys)s::text[], %(sizes)s::bigint[]) AS found (key, size_bytes)
    WHERE NOT EXISTS (SELECT FROM storage.blob WHERE object_key = found.key)
        AND NOT EXISTS (SELECT FROM storage.pending_object WHERE object_key = found.key)"""
_WATCH = f"""
    WITH stray AS ({_STRAY}), gone AS (
        DELETE FROM storage.orphan_object WHERE object_key NOT IN (SELECT object_key FROM stray)
    )
    INSERT INTO storage.orphan_object (object_key, size_bytes) SELECT object_key, size_bytes FROM stray
    ON CONFLICT (object_key) DO NOTHING"""  # noqa: S608
# Nobody can come to refer to one of these: there is no record to claim.
_JUDGE = """
    DELETE FROM storage.orphan_object WHERE object_key IN (
        SELECT object_key FROM storage.orphan_object WHERE find_time <= storage.clock() - %(wait)s
        ORDER BY find_time, object_key LIMIT %(limit)s
    ) RETURNING object_key, size_bytes"""
_ORPHAN_COUNT = "SELECT count(*) FROM storage.orphan_object"


NOTHING_NEEDED = Needed()


class SweepRepository(Protocol):
    """What the sweeper asks. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Inside the block no other sweep runs, in any replica; raises ServiceError (SWEEP_RUNNING) when one does."""

    async def ending(self) -> Collection[Ending]:
        """What will end soon, or has ended but was not marked yet, and the checkpoints that were in use within the last day."""

    async def keep(self, needed: Needed) -> None:
        """Gives what is needed of that its retention anew, and holds what nobody knows of and checkpoints to start from."""

    async def decide(self, found: Sequence[StoredObject], limit: int, *, needed: Needed = NOTHING_NEEDED, dry_run: bool) -> Sweep:
        """Keeps what is needed and marks what is due, at most `limit` of each sort; `found` is what lies in the bucket.

        A dry run changes nothing. Nothing will ever refer to the `objects` of the outcome. They stay due until their records are
        forgotten.
        """


class PostgresSweepRepository:
    """The decisions of a sweep in the schema `storage`; an upload may take `upload_lifetime`."""

    def __init__(self, pool: Pool, policy: Policy, upload_lifetime: datetime.timedelta) -> None:
        self._pool = pool
        self._policy = policy
        self._upload_lifetime = upload_lifetime

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Holds an advisory lock of the session; it goes with the connection when the process dies."""
        async with session(self._pool) as connection:
            row = await first_row(connection, "SELECT pg_try_advisory_lock(%(lock)s) AS free", {"lock": SWEEP_LOCK})
            if row is None or not row["free"]:
                raise ServiceError("SWEEP_RUNNING", "another sweep is at work")
            try:
                yield
            finally:
                await connection.execute("SELECT pg_advisory_unlock(%(lock)s)", {"lock": SWEEP_LOCK})

    async def ending(self) -> Collection[Ending]:
        """What will end soon; see SweepRepository."""
        async with transaction(self._pool) as connection:
            rows = await _rows(connection, _ENDING, {"horizon": ahead(self._policy), "hold": HOLD})
        return [Ending(**row) for row in rows]

    async def keep(self, needed: Needed) -> None:
        """Gives what is needed its retention anew, and no less than lasts until the sweeps after; see SweepRepository."""
        async with transaction(self._pool) as connection:
            await self._keep(connection, needed)

    async def _keep(self, connection: Connection, needed: Needed) -> None:
        parameters: dict[str, Any] = {field: list(names) for field, names in dataclasses.asdict(needed).items()}
        parameters |= {"horizon": ahead(self._policy), "retention": self._policy.retention, "hold": HOLD}
        await connection.execute(_KEEP, parameters)
        await connection.execute(_HOLD, parameters)

    async def decide(self, found: Sequence[StoredObject], limit: int, *, needed: Needed = NOTHING_NEEDED, dry_run: bool) -> Sweep:
        """Keeps and marks in one transaction; see SweepRepository."""
        async with transaction(self._pool) as connection, connection.transaction(force_rollback=dry_run):
            await self._keep(connection, needed)
            await _judge_orphans(connection, found, limit)
            await drop_expired_uploads(connection)
            expired = await _ids(connection, _EXPIRE, {"limit": limit, "grace": self._policy.grace})
            deleted = await _delete(connection, limit)
            objects = await take_due(connection, self._upload_lifetime, limit)
            return Sweep(
                expired=expired,
                deleted=deleted,
                objects=objects,
                orphan_count=await _count(connection, _ORPHAN_COUNT, {}),
                notices=await announce_expiring(connection),
                truncated=limit in (len(expired), len(deleted), len(objects)),
            )


async def _judge_orphans(connection: Connection, found: Sequence[StoredObject], limit: int) -> None:
    seen = {"keys": [item.key for item in found], "sizes": [item.size_bytes for item in found]}
    await connection.execute(_WATCH, seen)
    old = await _rows(connection, _JUDGE, {"wait": ORPHAN_WAIT, "limit": limit})
    await condemn(connection, {row["object_key"]: row["size_bytes"] for row in old})


async def _delete(connection: Connection, limit: int) -> tuple[uuid.UUID, ...]:
    rows = await _rows(connection, _DELETE, {"limit": limit})
    await drop_unused_blobs(connection, {sha256 for row in rows for sha256 in row["contents"]})
    return tuple(row["id"] for row in rows)


async def _ids(connection: Connection, query: LiteralString, parameters: dict[str, Any]) -> tuple[uuid.UUID, ...]:
    return tuple(row["id"] for row in await _rows(connection, query, parameters))


async def _rows(connection: Connection, query: LiteralString, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return await (await connection.execute(query, parameters)).fetchall()


async def _count(connection: Connection, query: LiteralString, parameters: dict[str, Any]) -> int:
    row = await first_row(connection, query, parameters)
    return int(row["count"]) if row else 0
