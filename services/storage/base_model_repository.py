"""Rows of base models; all their SQL. Used by the base model upload and servicer."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, Protocol

from psycopg.rows import DictRow

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.base_model import BaseModel, BaseModelDraft, base_model_name
from services.storage.base_model_listing import BaseModelFilter, Order, Place
from services.storage.blob_repository import add_blobs
from services.storage.file import StoredFile
from services.storage.rows import first_row

_COLUMNS = """model.id, model.display_name, model.family, model.parameter_count, model.context_length, model.license,
    model.size_bytes, model.revision, model.create_time, model.chat_template_problem, model.dtype, (
        SELECT jsonb_agg(jsonb_build_array(file.path, blob.size_bytes, blob.sha256, blob.object_key, blob.damage, blob.blake3)
            ORDER BY file.position)
        FROM storage.base_model_file AS file JOIN storage.blob USING (sha256) WHERE file.base_model = model.id
    ) AS files"""
_INSERT = """
    INSERT INTO storage.base_model (id, display_name, family, parameter_count, context_length, license, size_bytes, revision,
        chat_template_problem, dtype)
    VALUES (%(id)s, %(display_name)s, %(family)s, %(parameter_count)s, %(context_length)s, %(license)s, %(size_bytes)s,
        %(revision)s, %(chat_template_problem)s, %(dtype)s)
    ON CONFLICT (id) DO NOTHING
    RETURNING id"""
_INSERT_FILE = """
    INSERT INTO storage.base_model_file (base_model, position, path, sha256)
    VALUES (%(base_model)s, %(position)s, %(path)s, %(sha256)s)"""
_ONE = f"SELECT {_COLUMNS} FROM storage.base_model AS model WHERE model.id = %(id)s"  # noqa: S608 - constants only
_NUMBERS: Mapping[Order, LiteralString] = {
    Order.ID: "0::bigint",
    Order.PARAMETERS: "model.parameter_count",
    Order.NEWEST: "-(extract(epoch FROM model.create_time) * 1000000)::bigint",
    Order.CONTEXT: "-model.context_length",
}
"""What `BaseModelFilter.place` says, in SQL."""


def _page(number: LiteralString) -> LiteralString:
    return f"""
    SELECT {_COLUMNS} FROM storage.base_model AS model
    WHERE (%(family)s = '' OR model.family = %(family)s)
        AND (%(license)s = '' OR lower(model.license) = lower(%(license)s))
        AND position(lower(%(text)s) IN lower(model.id || ' ' || model.display_name)) > 0
        AND (%(parameters)s = 0 OR model.parameter_count <= %(parameters)s)
        AND NOT (%(trains)s AND model.chat_template_problem <> '')
        AND (%(number)s::bigint IS NULL OR ({number}, model.id) > (%(number)s, %(id)s COLLATE "C"))
    ORDER BY {number}, model.id
    LIMIT %(limit)s"""  # noqa: S608 - constants only


_PAGES = {order: _page(number) for order, number in _NUMBERS.items()}


class BaseModelRepository(Protocol):
    """What the service asks about base models. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def find(self, draft: BaseModelDraft) -> BaseModel | None:
        """The registered model of that id, None = the id is free; raises ServiceError (BASE_MODEL_EXISTS) for other files."""

    async def add(
        self, draft: BaseModelDraft, keys: Mapping[str, str], chat_template_problem: str = "", dtype: str = ""
    ) -> BaseModel:
        """Commits a base model, or returns the one of the same id and files.

        `keys` are the object keys of its files by SHA-256. Raises ServiceError (BASE_MODEL_EXISTS, UPLOAD_EXPIRED).
        """

    async def get(self, identifier: str) -> BaseModel:
        """One base model; raises NotFound (BASE_MODEL_NOT_FOUND)."""

    async def page(self, limit: int, after: Place | None, wanted: BaseModelFilter) -> Sequence[BaseModel]:
        """At most `limit` base models behind `after`, in the order of the filter."""


class PostgresBaseModelRepository:
    """Base models in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, draft: BaseModelDraft) -> BaseModel | None:
        """The registered model of that id; raises ServiceError (BASE_MODEL_EXISTS)."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _ONE, {"id": draft.id})
        return same_files(_base_model(row), draft) if row else None

    async def add(
        self, draft: BaseModelDraft, keys: Mapping[str, str], chat_template_problem: str = "", dtype: str = ""
    ) -> BaseModel:
        """Commits a base model, or returns the one of the same id and files; see BaseModelRepository."""
        judged = {"chat_template_problem": chat_template_problem, "dtype": dtype}
        async with transaction(self._pool) as connection:
            if await first_row(connection, _INSERT, _parameters(draft) | judged):
                await _insert_files(connection, draft, keys)
            return same_files(_found(await first_row(connection, _ONE, {"id": draft.id}), draft.id), draft)

    async def get(self, identifier: str) -> BaseModel:
        """One base model; raises NotFound."""
        async with transaction(self._pool) as connection:
            return _found(await first_row(connection, _ONE, {"id": identifier}), identifier)

    async def page(self, limit: int, after: Place | None, wanted: BaseModelFilter) -> list[BaseModel]:
        """At most `limit` base models behind `after`, in the order of the filter."""
        parameters = {
            "limit": limit,
            "number": after and after.number,
            "id": after and after.id,
            "family": wanted.family,
            "license": wanted.license,
            "text": wanted.text,
            "parameters": wanted.max_parameter_count,
            "trains": wanted.trains_conversations,
        }
        async with transaction(self._pool) as connection:
            return [_base_model(row) async for row in await connection.execute(_PAGES[wanted.order], parameters)]


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


def _parameters(draft: BaseModelDraft) -> dict[str, Any]:
    return {
        "id": draft.id,
        "display_name": draft.display_name,
        "family": draft.family,
        "parameter_count": draft.parameter_count,
        "context_length": draft.context_length,
        "license": draft.license,
        "size_bytes": draft.size_bytes,
        "revision": draft.revision,
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
        dtype=row["dtype"],
    )
