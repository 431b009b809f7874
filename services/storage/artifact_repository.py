"""Rows of artifacts and the epoch fence; all their SQL. Used by the artifact upload and servicer."""

import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from psycopg.rows import DictRow

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.artifact import Artifact, ArtifactDraft, artifact_name
from services.storage.blob_repository import add_blobs
from services.storage.file import StoredFile
from services.storage.position import Position
from services.storage.rows import first_row

_COLUMNS = """artifact.id, artifact.kind, artifact.task, artifact.manifest, artifact.size_bytes, artifact.create_time,
    artifact.expire_time, artifact.expire_time <= now() AS expired, (
        SELECT jsonb_agg(jsonb_build_array(file.path, blob.size_bytes, blob.sha256, blob.object_key) ORDER BY file.position)
        FROM storage.artifact_file AS file JOIN storage.blob USING (sha256) WHERE file.artifact = artifact.id
    ) AS files"""
_HEAD = "SELECT epoch FROM storage.artifact_epoch WHERE task = %(task)s"
_RAISE_HEAD = """
    INSERT INTO storage.artifact_epoch AS head (task, epoch) VALUES (%(task)s, %(epoch)s)
    ON CONFLICT (task) DO UPDATE SET epoch = greatest(head.epoch, excluded.epoch)
    RETURNING epoch"""
_INSERT = """
    INSERT INTO storage.artifact (id, kind, task, epoch, request_id, manifest, size_bytes, expire_time)
    VALUES (%(id)s, %(kind)s, %(task)s, %(epoch)s, %(request_id)s, %(manifest)s, %(size_bytes)s, now() + %(retention)s)"""
_INSERT_FILE = """
    INSERT INTO storage.artifact_file (artifact, position, path, sha256)
    VALUES (%(artifact)s, %(position)s, %(path)s, %(sha256)s)"""
_OF_REQUEST = f"""
    SELECT {_COLUMNS} FROM storage.artifact AS artifact
    WHERE artifact.task = %(task)s AND artifact.request_id = %(request_id)s"""  # noqa: S608 - constants only
_ONE = f"""
    SELECT {_COLUMNS} FROM storage.artifact AS artifact
    WHERE artifact.id = %(id)s AND artifact.state = 'AVAILABLE'"""  # noqa: S608
_PAGE = f"""
    SELECT {_COLUMNS} FROM storage.artifact AS artifact
    WHERE artifact.state = 'AVAILABLE' AND artifact.expire_time > now()
        AND (%(task)s::uuid IS NULL OR artifact.task = %(task)s)
        AND (%(time)s::timestamptz IS NULL OR (artifact.create_time, artifact.id) < (%(time)s, %(id)s))
    ORDER BY artifact.create_time DESC, artifact.id DESC
    LIMIT %(limit)s"""  # noqa: S608


class ArtifactRepository(Protocol):
    """What the service asks about artifacts. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def find(self, task: uuid.UUID, epoch: int, request_id: str) -> Artifact | None:
        """What an earlier call with that request_id stored, None = nothing; raises ServiceError (STALE_EPOCH)."""

    async def add(self, draft: ArtifactDraft, keys: Mapping[str, str]) -> Artifact:
        """Commits an artifact, or returns the first of the same task and request_id; raises ServiceError (STALE_EPOCH).

        `keys` are the object keys of its files by SHA-256.
        """

    async def get(self, identifier: uuid.UUID) -> Artifact:
        """One artifact; raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED)."""

    async def page(self, limit: int, after: Position | None, task: uuid.UUID | None) -> Sequence[Artifact]:
        """At most `limit` artifacts older than `after`, of one task or of all, newest first."""


class PostgresArtifactRepository:
    """Artifacts in the schema `storage`; they expire `retention` after their commit, by the clock of the database."""

    def __init__(self, pool: Pool, retention: datetime.timedelta) -> None:
        self._pool = pool
        self._retention = retention

    async def find(self, task: uuid.UUID, epoch: int, request_id: str) -> Artifact | None:
        """What an earlier call with that request_id stored; raises ServiceError (STALE_EPOCH)."""
        async with transaction(self._pool) as connection:
            head = await first_row(connection, _HEAD, {"task": task})
            refuse_stale(task, epoch, head["epoch"] if head else epoch)
            return await _of_request(connection, task, request_id)

    async def add(self, draft: ArtifactDraft, keys: Mapping[str, str]) -> Artifact:
        """Commits an artifact, or returns the first of the same task and request_id; see ArtifactRepository."""
        async with transaction(self._pool) as connection:
            # The head row stays locked until the end, so commits of one task come one after another.
            head = await first_row(connection, _RAISE_HEAD, {"task": draft.task, "epoch": draft.epoch})
            refuse_stale(draft.task, draft.epoch, head["epoch"] if head else draft.epoch)
            stored = await _of_request(connection, draft.task, draft.request_id)
            if stored is None:
                await self._insert(connection, draft, keys)
                stored = await _of_request(connection, draft.task, draft.request_id)
            assert stored is not None, "the row was inserted in this transaction"
            return stored

    async def get(self, identifier: uuid.UUID) -> Artifact:
        """One artifact; raises NotFound."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _ONE, {"id": identifier})
        if row is None:
            raise NotFound("ARTIFACT_NOT_FOUND", artifact_name(identifier))
        if row["expired"]:
            raise expired(_artifact(row))
        return _artifact(row)

    async def page(self, limit: int, after: Position | None, task: uuid.UUID | None) -> list[Artifact]:
        """At most `limit` artifacts older than `after`, of one task or of all, newest first."""
        parameters = {"limit": limit, "time": after and after.create_time, "id": after and after.id, "task": task}
        async with transaction(self._pool) as connection:
            return [_artifact(row) async for row in await connection.execute(_PAGE, parameters)]

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
            "retention": self._retention,
        }
        await connection.execute(_INSERT, row)
        for position, file in enumerate(files):
            parameters = {"artifact": draft.id, "position": position, "path": file.path, "sha256": file.sha256}
            await connection.execute(_INSERT_FILE, parameters)


def refuse_stale(task: uuid.UUID, epoch: int, head: int) -> None:
    """Raises ServiceError (STALE_EPOCH) when an attempt newer than `epoch` has written."""
    if epoch < head:
        metadata = {"task": f"tasks/{task}", "epoch": str(epoch), "head_epoch": str(head)}
        raise ServiceError("STALE_EPOCH", f"tasks/{task} is at epoch {head}; epoch {epoch} is over", metadata=metadata)


def expired(artifact: Artifact) -> NotFound:
    """The error for an artifact past its time; tells when that was."""
    when = artifact.expire_time.astimezone(datetime.UTC).isoformat(timespec="seconds")
    error = NotFound("ARTIFACT_EXPIRED", artifact.name, message=f"{artifact.name} expired at {when}")
    error.metadata["expire_time"] = when
    return error


async def _of_request(connection: Connection, task: uuid.UUID, request_id: str) -> Artifact | None:
    row = await first_row(connection, _OF_REQUEST, {"task": task, "request_id": request_id})
    return _artifact(row) if row else None


def _artifact(row: DictRow) -> Artifact:
    return Artifact(
        id=row["id"],
        kind=row["kind"],
        task=row["task"],
        manifest=bytes(row["manifest"]),
        files=tuple(StoredFile(*file) for file in row["files"]),
        size_bytes=row["size_bytes"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
    )
