"""Rows of base models; all their SQL. Used by the base model upload and servicer."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from psycopg.rows import DictRow

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.base_model import BaseModel, BaseModelDraft, base_model_name
from services.storage.blob_repository import add_blobs
from services.storage.file import StoredFile
from services.storage.rows import first_row

_COLUMNS = """model.id, model.display_name, model.family, model.parameter_count, model.context_length, model.license,
    model.size_bytes, model.revision, model.create_time, model.chat_template_problem, (
        SELECT jsonb_agg(jsonb_build_array(file.path, blob.size_bytes, blob.sha256, blob.object_key, blob.damage)
            ORDER BY file.position)
        FROM storage.base_model_file AS file JOIN storage.blob USING (sha256) WHERE file.base_model = model.id
    ) AS files"""
_INSERT = """
    INSERT INTO storage.base_model (id, display_name, family, parameter_count, context_length, license, size_bytes, revision,
        chat_template_problem)
    VALUES (%(id)s, %(display_name)s, %(family)s, %(parameter_count)s, %(context_length)s, %(license)s, %(size_bytes)s,
        %(revision)s, %(chat_template_problem)s)
    ON CONFLICT (id) DO NOTHING
    RETURNING id"""
_INSERT_FILE = """
    INSERT INTO storage.base_model_file (base_model, position, path, sha256)
    VALUES (%(base_model)s, %(position)s, %(path)s, %(sha256)s)"""
_ONE = f"SELECT {_COLUMNS} FROM storage.base_model AS model WHERE model.id = %(id)s"  # noqa: S608 - constants only
_PAGE = f"""
    SELECT {_COLUMNS} FROM storage.base_model AS model
    WHERE %(after)s::text IS NULL OR model.id > %(after)s
    ORDER BY model.id
    LIMIT %(limit)s"""  # noqa: S608


class BaseModelRepository(Protocol):
    """What the service asks about base models. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def find(self, draft: BaseModelDraft) -> BaseModel | None:
        """The registered model of that id, None = the id is free; raises ServiceError (BASE_MODEL_EXISTS) for other files."""

    async def add(self, draft: BaseModelDraft, keys: Mapping[str, str], chat_template_problem: str = "") -> BaseModel:
        """Commits a base model, or returns the one of the same id and files.

        `keys` are the object keys of its files by SHA-256. Raises ServiceError (BASE_MODEL_EXISTS, UPLOAD_EXPIRED).
        """

    async def get(self, identifier: str) -> BaseModel:
        """One base model; raises NotFound (BASE_MODEL_NOT_FOUND)."""

    async def page(self, limit: int, after: str | None) -> Sequence[BaseModel]:
        """At most `limit` base models with ids after `after`, by id."""


class PostgresBaseModelRepository:
    """Base models in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, draft: BaseModelDraft) -> BaseModel | None:
        """The registered model of that id; raises ServiceError (BASE_MODEL_EXISTS)."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _ONE, {"id": draft.id})
        return same_files(_base_model(row), draft) if row else None

    async def add(self, draft: BaseModelDraft, keys: Mapping[str, str], chat_template_problem: str = "") -> BaseModel:
        """Commits a base model, or returns the one of the same id and files; see BaseModelRepository."""
        async with transaction(self._pool) as connection:
            if await first_row(connection, _INSERT, _parameters(draft, chat_template_problem)):
                await _insert_files(connection, draft, keys)
            return same_files(_found(await first_row(connection, _ONE, {"id": draft.id}), draft.id), draft)

    async def get(self, identifier: str) -> BaseModel:
        """One base model; raises NotFound."""
        async with transaction(self._pool) as connection:
            return _found(await first_row(connection, _ONE, {"id": identifier}), identifier)

    async def page(self, limit: int, after: str | None) -> list[BaseModel]:
        """At most `limit` base models with ids after `after`, by id."""
        async with transaction(self._pool) as connection:
            return [_base_model(row) async for row in await connection.execute(_PAGE, {"limit": limit, "after": after})]


def same_files(model: BaseModel, draft: BaseModelDraft) -> BaseModel:
    """The model when it has the draft's files; raises ServiceError (BASE_MODEL_EXISTS) otherwise."""
    if model.revision != draft.revision:
        message = f"{model.name} is registered with other files (revision {model.revision[:12]}, not {draft.revision[:12]})"
        raise ServiceError("BASE_MODEL_EXISTS", message, metadata={"base_model": model.name, "revision": model.revision})
    return model


async def _insert_files(connection: Connection, draft: BaseModelDraft, keys: Mapping[str, str]) -> None:
    for position, file in enumerate(await add_blobs(connection, draft.files, keys)):
        parameters = {"base_model": draft.id, "position": position, "path": file.path, "sha256": file.sha256}
        await connection.execute(_INSERT_FILE, parameters)


def _found(row: DictRow | None, identifier: str) -> BaseModel:
    if row is None:
        raise NotFound("BASE_MODEL_NOT_FOUND", base_model_name(identifier))
    return _base_model(row)


def _parameters(draft: BaseModelDraft, chat_template_problem: str) -> dict[str, Any]:
    return {
        "id": draft.id,
        "display_name": draft.display_name,
        "family": draft.family,
        "parameter_count": draft.parameter_count,
        "context_length": draft.context_length,
        "license": draft.license,
        "size_bytes": draft.size_bytes,
        "revision": draft.revision,
        "chat_template_problem": chat_template_problem,
    }


def _base_model(row: DictRow) -> BaseModel:
    return BaseModel(
        id=row["id"],
        display_name=row["display_name"],
        family=row["family"],
        parameter_count=row["parameter_count"],
        context_length=row["context_length"],
        license=row["license"],
        files=tuple(StoredFile(*file) for file in row["files"]),
        size_bytes=row["size_bytes"],
        revision=row["revision"],
        create_time=row["create_time"],
        chat_template_problem=row["chat_template_problem"],
    )
