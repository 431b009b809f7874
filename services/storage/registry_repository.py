"""Rows of registered models, versions and aliases; all their SQL. Used by the export and the model servicer."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import psycopg

from services.common.errors import ServiceError
from services.common.names import RegisteredName
from services.common.postgres import Connection, Pool, transaction
from services.storage.artifact_repository import lock_artifact
from services.storage.blob_repository import add_blobs, drop_unused_blobs
from services.storage.file import File, StoredFile
from services.storage.registered_model import ExportDraft, ModelVersion, RegisteredModel
from services.storage.registry_rows import (
    earlier_version,
    read_model,
    read_models,
    read_version,
    read_versions,
    version_not_found,
)
from services.storage.retention import Policy, require_available
from services.storage.rows import first_row

# Locks the model's row until the end, so that exports to one model come one after another.
_TAKE_MODEL = """
    INSERT INTO storage.registered_model AS model (id) VALUES (%(model)s)
    ON CONFLICT (id) DO UPDATE SET last_version = model.last_version"""
_NEXT = "UPDATE storage.registered_model SET last_version = last_version + 1 WHERE id = %(model)s RETURNING last_version"
_INSERT = """
    INSERT INTO storage.model_version (model, version, format, description, artifact, manifest, size_bytes, request_id)
    VALUES (%(model)s, %(version)s, %(format)s, %(description)s, %(artifact)s, %(manifest)s, %(size_bytes)s, %(request_id)s)"""
_INSERT_FILE = """
    INSERT INTO storage.model_version_file (model, version, position, path, sha256)
    VALUES (%(model)s, %(version)s, %(position)s, %(path)s, %(sha256)s)"""
_SET_ALIAS = """
    INSERT INTO storage.model_alias (model, alias, version) VALUES (%(model)s, %(alias)s, %(version)s)
    ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version"""
_DROP_ALIAS = "DELETE FROM storage.model_alias WHERE model = %(model)s AND alias = %(alias)s"
_HOLD = """
    UPDATE storage.model_version SET hold_until = greatest(hold_until, storage.clock() + %(hold)s)
    WHERE model = %(model)s AND version = %(version)s RETURNING version"""
_DELETE = """
    DELETE FROM storage.model_version
    WHERE model = %(model)s AND version = %(version)s AND (hold_until IS NULL OR hold_until <= storage.clock())
    RETURNING version"""
_AUDIT = """
    INSERT INTO storage.artifact_audit (artifact, action, actor, reason, expire_time)
    SELECT id, 'EXPORT', 'caller', %(reason)s, expire_time FROM storage.artifact WHERE id = %(artifact)s"""
VERSION_HOLD = datetime.timedelta(minutes=1)
"""Far longer than a task manager needs between the hold and the record of its task."""


class RegistryRepository(Protocol):
    """What the service asks about registered models. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def find(self, draft: ExportDraft) -> ModelVersion | None:
        """What an earlier export with that request_id made; raises ServiceError (REQUEST_ID_REUSED)."""

    async def add(self, draft: ExportDraft, files: Sequence[File], keys: Mapping[str, str]) -> ModelVersion:
        """Commits the next version, or returns the first of the same request_id.

        `keys` are the object keys of its files by SHA-256. Raises NotFound (ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED) and
        ServiceError (REQUEST_ID_REUSED, UPLOAD_EXPIRED); nothing has changed then.
        """

    async def model(self, identifier: str) -> RegisteredModel:
        """One model; raises NotFound (REGISTERED_MODEL_NOT_FOUND)."""

    async def models(self, limit: int, after: str | None) -> Sequence[RegisteredModel]:
        """At most `limit` models with ids after `after`, by id."""

    async def version(self, name: RegisteredName) -> ModelVersion:
        """One version; raises NotFound (REGISTERED_MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND)."""

    async def versions(self, model: str, limit: int, before: int | None) -> Sequence[ModelVersion]:
        """At most `limit` versions with numbers before `before`, newest first."""

    async def set_alias(self, model: str, alias: str, version: int) -> RegisteredModel:
        """Points the alias to the version, 0 = to nothing; raises NotFound as `version` does."""

    async def hold(self, name: RegisteredName) -> ModelVersion:
        """Keeps a version from deletion for VERSION_HOLD from now; raises NotFound as `version` does."""

    async def delete(self, name: RegisteredName) -> ModelVersion:
        """Deletes a version and leaves what nothing else refers to, to the sweeper.

        Raises NotFound, and ServiceError (MODEL_VERSION_IN_USE) when an alias points to it or it is held.
        """


class PostgresRegistryRepository:
    """The registry in the schema `storage`."""

    def __init__(self, pool: Pool, policy: Policy) -> None:
        self._pool = pool
        self._policy = policy

    async def find(self, draft: ExportDraft) -> ModelVersion | None:
        """What an earlier export with that request_id made; see RegistryRepository."""
        async with transaction(self._pool) as connection:
            return await earlier_version(connection, draft)

    async def add(self, draft: ExportDraft, files: Sequence[File], keys: Mapping[str, str]) -> ModelVersion:
        """Commits the next version under the locks of artifact and model; see RegistryRepository."""
        async with transaction(self._pool) as connection:
            manifest = await self._manifest(connection, draft)
            await connection.execute(_TAKE_MODEL, {"model": draft.model})
            earlier = await earlier_version(connection, draft)
            if earlier is not None:
                return earlier
            row = await first_row(connection, _NEXT, {"model": draft.model})
            assert row is not None, "the row was made in this transaction"
            version = int(row["last_version"])
            await _insert(connection, draft, version, manifest, await add_blobs(connection, files, keys))
            return await read_version(connection, RegisteredName(draft.model, version))

    async def _manifest(self, connection: Connection, draft: ExportDraft) -> bytes:
        """Of an artifact, whose row stays locked until the end: it must not expire meanwhile."""
        if draft.artifact is None:
            return draft.manifest
        artifact, now = await lock_artifact(connection, draft.artifact, self._policy)
        require_available(artifact.name, artifact.life, now, self._policy)
        return artifact.manifest

    async def model(self, identifier: str) -> RegisteredModel:
        """One model; raises NotFound."""
        async with transaction(self._pool) as connection:
            return await read_model(connection, identifier)

    async def models(self, limit: int, after: str | None) -> list[RegisteredModel]:
        """At most `limit` models with ids after `after`, by id."""
        async with transaction(self._pool) as connection:
            return await read_models(connection, limit, after)

    async def version(self, name: RegisteredName) -> ModelVersion:
        """One version; raises NotFound."""
        async with transaction(self._pool) as connection:
            return await read_version(connection, name)

    async def versions(self, model: str, limit: int, before: int | None) -> list[ModelVersion]:
        """At most `limit` versions with numbers before `before`, newest first; raises NotFound."""
        async with transaction(self._pool) as connection:
            await read_model(connection, model)
            return await read_versions(connection, model, limit, before)

    async def set_alias(self, model: str, alias: str, version: int) -> RegisteredModel:
        """Points the alias to the version, 0 = to nothing; raises NotFound."""
        async with transaction(self._pool) as connection:
            await read_model(connection, model)
            try:
                parameters = {"model": model, "alias": alias, "version": version}
                await connection.execute(_SET_ALIAS if version else _DROP_ALIAS, parameters)
            except psycopg.errors.ForeignKeyViolation as error:
                raise version_not_found(RegisteredName(model, version)) from error
            return await read_model(connection, model)

    async def hold(self, name: RegisteredName) -> ModelVersion:
        """Keeps a version from deletion for a while; raises NotFound."""
        async with transaction(self._pool) as connection:
            version = await read_version(connection, name)
            held = {"model": version.model, "version": version.version, "hold": VERSION_HOLD}
            if await first_row(connection, _HOLD, held) is None:
                raise version_not_found(name)
            return version

    async def delete(self, name: RegisteredName) -> ModelVersion:
        """Deletes a version; see RegistryRepository."""
        async with transaction(self._pool) as connection:
            version = await read_version(connection, name)
            try:
                deleted = await first_row(connection, _DELETE, {"model": version.model, "version": version.version})
            except psycopg.errors.ForeignKeyViolation as error:
                raise version_in_use(version) from error
            if deleted is None:
                raise version_held(await read_version(connection, name))
            await drop_unused_blobs(connection, {file.sha256 for file in version.files})
            return version


def version_in_use(version: ModelVersion) -> ServiceError:
    """The error for deleting what an alias points to."""
    names = ", ".join(version.aliases) or "an alias"
    return ServiceError("MODEL_VERSION_IN_USE", f"{names} points to {version.name}", metadata={"resource": version.name})


def version_held(version: ModelVersion) -> ServiceError:
    """The error for deleting what a task is about to start from."""
    message = f"a task is being created that starts from {version.name}"
    hint = f"Try again in {VERSION_HOLD.seconds} seconds, when the task can be named or has come to nothing."
    return ServiceError("MODEL_VERSION_IN_USE", message, hint=hint, metadata={"resource": version.name})


async def _insert(connection: Connection, draft: ExportDraft, version: int, manifest: bytes, files: Sequence[StoredFile]) -> None:
    row: dict[str, Any] = {
        "model": draft.model,
        "version": version,
        "format": draft.format,
        "description": draft.description,
        "artifact": draft.artifact,
        "manifest": manifest,
        "size_bytes": sum(file.size_bytes for file in files),
        "request_id": draft.request_id or None,
    }
    await connection.execute(_INSERT, row)
    for position, file in enumerate(files):
        await connection.execute(_INSERT_FILE, row | {"position": position, "path": file.path, "sha256": file.sha256})
    if draft.alias:
        await connection.execute(_SET_ALIAS, row | {"alias": draft.alias})
    await connection.execute(_AUDIT, row | {"reason": f"models/{draft.model}/versions/{version}"})
