"""Registered models and versions as rows of Postgres say them; used by the repository.

Versions come with their aliases and files, which lie in tables of their own.
"""

from typing import LiteralString

from psycopg.rows import DictRow

from services.common.errors import NotFound
from services.common.names import RegisteredName
from services.common.postgres import Connection
from services.storage.file import StoredFile
from services.storage.registered_model import ExportDraft, ModelVersion, RegisteredModel, same_export
from services.storage.rows import first_row

_MODEL = """model.id, model.create_time,
    (SELECT count(*) FROM storage.model_version AS version WHERE version.model = model.id) AS version_count,
    (SELECT coalesce(max(version), 0) FROM storage.model_version AS version WHERE version.model = model.id) AS newest_version,
    (SELECT coalesce(jsonb_object_agg(alias, version), '{}') FROM storage.model_alias AS alias WHERE alias.model = model.id)
        AS aliases"""
_ONE_MODEL = f"SELECT {_MODEL} FROM storage.registered_model AS model WHERE id = %(model)s"  # noqa: S608 - constants only
_MODELS = f"""
    SELECT {_MODEL} FROM storage.registered_model AS model WHERE %(after)s::text IS NULL OR id > %(after)s
    ORDER BY id LIMIT %(limit)s"""  # noqa: S608
_VERSION = """version.model, version.version, version.format, version.description, version.artifact, version.manifest,
    version.size_bytes, version.create_time, (
        SELECT coalesce(jsonb_agg(alias ORDER BY alias), '[]') FROM storage.model_alias AS alias
        WHERE alias.model = version.model AND alias.version = version.version
    ) AS aliases, (
        SELECT jsonb_agg(jsonb_build_array(file.path, blob.size_bytes, blob.sha256, blob.object_key, blob.damage, blob.blake3)
            ORDER BY file.position)
        FROM storage.model_version_file AS file JOIN storage.blob USING (sha256)
        WHERE file.model = version.model AND file.version = version.version
    ) AS files"""
_BY_NUMBER = f"""
    SELECT {_VERSION} FROM storage.model_version AS version
    WHERE version.model = %(model)s AND version.version = %(version)s"""  # noqa: S608
_BY_ALIAS = f"""
    SELECT {_VERSION} FROM storage.model_version AS version JOIN storage.model_alias AS chosen USING (model, version)
    WHERE version.model = %(model)s AND chosen.alias = %(alias)s"""  # noqa: S608
_BY_REQUEST = f"""
    SELECT {_VERSION} FROM storage.model_version AS version
    WHERE version.model = %(model)s AND version.request_id = %(request_id)s"""  # noqa: S608
_VERSIONS = f"""
    SELECT {_VERSION} FROM storage.model_version AS version
    WHERE version.model = %(model)s AND (%(before)s::int IS NULL OR version.version < %(before)s)
    ORDER BY version.version DESC LIMIT %(limit)s"""  # noqa: S608


def version_not_found(name: RegisteredName) -> NotFound:
    """The error for a version or alias a model does not have."""
    return NotFound("MODEL_VERSION_NOT_FOUND", str(name))


async def earlier_version(connection: Connection, draft: ExportDraft) -> ModelVersion | None:
    """What an export with the draft's request_id has made; raises ServiceError (REQUEST_ID_REUSED)."""
    row = await first_row(connection, _BY_REQUEST, {"model": draft.model, "request_id": draft.request_id or None})
    return same_export(_to_version(row), draft) if row else None


async def read_model(connection: Connection, identifier: str) -> RegisteredModel:
    """One model; raises NotFound (REGISTERED_MODEL_NOT_FOUND)."""
    row = await first_row(connection, _ONE_MODEL, {"model": identifier})
    if row is None:
        raise NotFound("REGISTERED_MODEL_NOT_FOUND", f"models/{identifier}")
    return _to_model(row)


async def read_models(connection: Connection, limit: int, after: str | None) -> list[RegisteredModel]:
    """At most `limit` models with ids after `after`, by id."""
    return [_to_model(row) async for row in await connection.execute(_MODELS, {"limit": limit, "after": after})]


async def read_version(connection: Connection, name: RegisteredName) -> ModelVersion:
    """One version; raises NotFound (REGISTERED_MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND)."""
    model = await read_model(connection, name.model)
    query: LiteralString = _BY_ALIAS if name.alias else _BY_NUMBER
    number = model.newest_version if name.version is None else name.version
    row = await first_row(connection, query, {"model": name.model, "alias": name.alias, "version": number})
    if row is None:
        raise version_not_found(name)
    return _to_version(row)


async def read_versions(connection: Connection, model: str, limit: int, before: int | None) -> list[ModelVersion]:
    """At most `limit` versions with numbers before `before`, newest first."""
    cursor = await connection.execute(_VERSIONS, {"model": model, "limit": limit, "before": before})
    return [_to_version(row) async for row in cursor]


def _to_model(row: DictRow) -> RegisteredModel:
    return RegisteredModel(row["id"], row["newest_version"], row["version_count"], row["aliases"], row["create_time"])


def _to_version(row: DictRow) -> ModelVersion:
    return ModelVersion(
        model=row["model"],
        version=row["version"],
        aliases=tuple(row["aliases"]),
        format=row["format"],
        description=row["description"],
        artifact=row["artifact"],
        manifest=bytes(row["manifest"]),
        files=tuple(StoredFile(*file) for file in row["files"]),
        size_bytes=row["size_bytes"],
        create_time=row["create_time"],
    )
