"""Rows of artifacts and the epoch fence; all their SQL. Used by the artifact upload and servicer."""

import dataclasses
import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from psycopg.rows import DictRow

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.artifact import Artifact, ArtifactDraft, ArtifactFilter, artifact_name
from services.storage.blob_repository import add_blobs
from services.storage.file import StoredFile
from services.storage.position import Position
from services.storage.retention import Life, Policy, require_available
from services.storage.retention_change import Change
from services.storage.rows import first_row
from services.storage.superseding import supersede

_COLUMNS = """artifact.id, artifact.kind, artifact.task, artifact.manifest, artifact.size_bytes, artifact.create_time,
    artifact.state, artifact.expire_time, artifact.delete_time, artifact.pinned, artifact.reason, artifact.hold_until,
    artifact.retention, storage.clock() AS now, (
        SELECT jsonb_agg(jsonb_build_array(file.path, blob.size_bytes, blob.sha256, blob.object_key, blob.damage, blob.blake3)
            ORDER BY file.position)
        FROM storage.artifact_file AS file JOIN storage.blob USING (sha256) WHERE file.artifact = artifact.id
    ) AS files"""
_HEAD = "SELECT epoch FROM storage.artifact_epoch WHERE task = %(task)s"
_RAISE_HEAD = """
    INSERT INTO storage.artifact_epoch AS head (task, epoch) VALUES (%(task)s, %(epoch)s)
    ON CONFLICT (task) DO UPDATE SET epoch = greatest(head.epoch, excluded.epoch)
    RETURNING epoch"""
_INSERT = """
    INSERT INTO storage.artifact (id, kind, task, epoch, request_id, manifest, size_bytes, labelled, eval_loss,
        attempt, retention, create_time, expire_time)
    VALUES (%(id)s, %(kind)s, %(task)s, %(epoch)s, %(request_id)s, %(manifest)s, %(size_bytes)s, %(labelled)s,
        %(eval_loss)s, %(attempt)s, %(retention)s, storage.clock(), storage.clock() + %(kept)s)"""
_INSERT_FILE = """
    INSERT INTO storage.artifact_file (artifact, position, path, sha256)
    VALUES (%(artifact)s, %(position)s, %(path)s, %(sha256)s)"""
_OF_REQUEST = f"""
    SELECT {_COLUMNS} FROM storage.artifact AS artifact
    WHERE artifact.task = %(task)s AND artifact.request_id = %(request_id)s"""  # noqa: S608 - constants only
_ONE = f"SELECT {_COLUMNS} FROM storage.artifact AS artifact WHERE artifact.id = %(id)s"  # noqa: S608
_LOCKED = f"{_ONE} FOR UPDATE"
_PAGE = f"""
    SELECT {_COLUMNS} FROM storage.artifact AS artifact
    WHERE (CASE WHEN artifact.state = 'AVAILABLE' AND artifact.due_time <= storage.clock() THEN 'EXPIRED' ELSE artifact.state END)
            = ANY(%(states)s)
        AND (%(task)s::uuid IS NULL OR artifact.task = %(task)s)
        AND (%(kind)s::text IS NULL OR artifact.kind = %(kind)s)
        AND (%(before)s::timestamptz IS NULL OR (artifact.expire_time < %(before)s AND NOT artifact.pinned))
        AND (%(time)s::timestamptz IS NULL OR (artifact.create_time, artifact.id) < (%(time)s, %(id)s))
    ORDER BY artifact.create_time DESC, artifact.id DESC
    LIMIT %(limit)s"""  # noqa: S608
_CHANGE = """
    UPDATE storage.artifact SET state = %(state)s, expire_time = %(expire_time)s, delete_time = %(delete_time)s,
        pinned = %(pinned)s, reason = %(reason)s, hold_until = %(hold_until)s
    WHERE id = %(id)s"""
_AUDIT = """
    INSERT INTO storage.artifact_audit (artifact, action, actor, reason, expire_time)
    VALUES (%(id)s, %(action)s, 'caller', %(reason)s, %(expire_time)s)"""


class ArtifactRepository(Protocol):
    """What the service asks about artifacts. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def find(self, task: uuid.UUID, epoch: int, request_id: str) -> Artifact | None:
        """What an earlier call with that request_id stored, None = nothing; raises ServiceError (STALE_EPOCH)."""

    async def add(self, draft: ArtifactDraft, keys: Mapping[str, str]) -> Artifact:
        """Commits an artifact, or returns the first of the same task and request_id.

        `keys` are the object keys of its files by SHA-256. Raises ServiceError (STALE_EPOCH, UPLOAD_EXPIRED).
        """

    async def get(self, identifier: uuid.UUID) -> Artifact:
        """One artifact; raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED)."""

    async def page(self, limit: int, after: Position | None, wanted: ArtifactFilter) -> Sequence[Artifact]:
        """At most `limit` artifacts older than `after`, newest first."""

    async def change(self, identifier: uuid.UUID, change: Change) -> Artifact:
        """Changes how long an artifact is kept, or raises what the change raises; raises NotFound (ARTIFACT_NOT_FOUND)."""


class PostgresArtifactRepository:
    """Artifacts in the schema `storage`; they live by the policy and the clock of the database."""

    def __init__(self, pool: Pool, policy: Policy) -> None:
        self._pool = pool
        self._policy = policy

    async def find(self, task: uuid.UUID, epoch: int, request_id: str) -> Artifact | None:
        """What an earlier call with that request_id stored; raises ServiceError (STALE_EPOCH)."""
        async with transaction(self._pool) as connection:
            head = await first_row(connection, _HEAD, {"task": task})
            refuse_stale(task, epoch, head["epoch"] if head else epoch)
            return await self._of_request(connection, task, request_id)

    async def add(self, draft: ArtifactDraft, keys: Mapping[str, str]) -> Artifact:
        """Commits an artifact, or returns the first of the same task and request_id; see ArtifactRepository."""
        async with transaction(self._pool, "artifacts.add") as connection:
            # The head row stays locked until the end, so commits of one task come one after another.
            head = await first_row(connection, _RAISE_HEAD, {"task": draft.task, "epoch": draft.epoch})
            refuse_stale(draft.task, draft.epoch, head["epoch"] if head else draft.epoch)
            stored = await self._of_request(connection, draft.task, draft.request_id)
            if stored is None:
                await self._insert(connection, draft, keys)
                if draft.checkpoint is not None:
                    await supersede(connection, draft.task, draft.checkpoint)
                stored = await self._of_request(connection, draft.task, draft.request_id)
            assert stored is not None, "the row was inserted in this transaction"
            return stored

    async def get(self, identifier: uuid.UUID) -> Artifact:
        """One artifact; raises NotFound."""
        async with transaction(self._pool) as connection:
            row = found(await first_row(connection, _ONE, {"id": identifier}), identifier)
        artifact = to_artifact(row, self._policy)
        require_available(artifact.name, artifact.life, row["now"], self._policy)
        return artifact

    async def page(self, limit: int, after: Position | None, wanted: ArtifactFilter) -> list[Artifact]:
        """At most `limit` artifacts older than `after`, newest first."""
        position = {"limit": limit, "time": after and after.create_time, "id": after and after.id}
        filters = {"task": wanted.task, "states": list(wanted.states), "kind": wanted.kind, "before": wanted.expiring_before}
        async with transaction(self._pool) as connection:
            return [to_artifact(row, self._policy) async for row in await connection.execute(_PAGE, position | filters)]

    async def change(self, identifier: uuid.UUID, change: Change) -> Artifact:
        """Changes how long an artifact is kept, under the lock of its row; see ArtifactRepository."""
        async with transaction(self._pool) as connection:
            before, now = await lock_artifact(connection, identifier, self._policy)
            life = change.apply(before.name, before.life, now, self._policy)
            if life == before.life:
                return before
            await _write(connection, identifier, life, change)
            return to_artifact(found(await first_row(connection, _ONE, {"id": identifier}), identifier), self._policy)

    async def _insert(self, connection: Connection, draft: ArtifactDraft, keys: Mapping[str, str]) -> None:
        files = await add_blobs(connection, draft.files, keys)
        row = {
            "id": draft.id,
            "kind": draft.kind,
            "task": draft.task,
            "epoch": draft.epoch,
            "request_id": draft.request_id,
            "manifest": draft.manifest,
            "size_bytes": draft.size_bytes,
            "labelled": draft.checkpoint is not None and draft.checkpoint.labelled,
            "eval_loss": draft.checkpoint and draft.checkpoint.eval_loss,
            "attempt": draft.checkpoint.attempt if draft.checkpoint is not None else 0,
            "retention": draft.retention,
            "kept": draft.retention or self._policy.retention,
        }
        await connection.execute(_INSERT, row)
        for position, file in enumerate(files):
            parameters = {"artifact": draft.id, "position": position, "path": file.path, "sha256": file.sha256}
            await connection.execute(_INSERT_FILE, parameters)

    async def _of_request(self, connection: Connection, task: uuid.UUID, request_id: str) -> Artifact | None:
        row = await first_row(connection, _OF_REQUEST, {"task": task, "request_id": request_id})
        return to_artifact(row, self._policy) if row else None


def refuse_stale(task: uuid.UUID, epoch: int, head: int) -> None:
    """Raises ServiceError (STALE_EPOCH) when an attempt newer than `epoch` has written."""
    if epoch < head:
        metadata = {"task": f"tasks/{task}", "epoch": str(epoch), "head_epoch": str(head)}
        raise ServiceError("STALE_EPOCH", f"tasks/{task} is at epoch {head}; epoch {epoch} is over", metadata=metadata)


def found(row: DictRow | None, identifier: uuid.UUID) -> DictRow:
    """The row; raises NotFound (ARTIFACT_NOT_FOUND)."""
    if row is None:
        raise NotFound("ARTIFACT_NOT_FOUND", artifact_name(identifier))
    return row


async def lock_artifact(connection: Connection, identifier: uuid.UUID, policy: Policy) -> tuple[Artifact, datetime.datetime]:
    """An artifact whose row nobody else changes in this transaction, and the moment; raises NotFound (ARTIFACT_NOT_FOUND)."""
    row = found(await first_row(connection, _LOCKED, {"id": identifier}), identifier)
    return to_artifact(row, policy), row["now"]


async def _write(connection: Connection, identifier: uuid.UUID, life: Life, change: Change) -> None:
    row = {
        "id": identifier,
        "state": life.state,
        "expire_time": life.expire_time,
        "delete_time": life.delete_time,
        "pinned": life.pinned,
        "reason": life.reason,
        "hold_until": life.hold_until,
    }
    await connection.execute(_CHANGE, row)
    if change.action:
        await connection.execute(_AUDIT, row | {"action": change.action})


def to_artifact(row: DictRow, policy: Policy) -> Artifact:
    """An artifact from a row of `_COLUMNS`."""
    life = Life(**{field.name: row[field.name] for field in dataclasses.fields(Life)})
    return Artifact(
        id=row["id"],
        kind=row["kind"],
        task=row["task"],
        manifest=bytes(row["manifest"]),
        files=tuple(StoredFile(*file) for file in row["files"] or ()),
        size_bytes=row["size_bytes"],
        create_time=row["create_time"],
        life=life,
        state=life.state_at(row["now"]),
        delete_time=life.restorable_until(row["now"], policy) or life.delete_time,
    )
