"""Rows of datasets; all their SQL. Used by the dataset upload and servicer."""

import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Pool, transaction
from services.storage.dataset import Dataset, DatasetDraft, DatasetStatistics, dataset_name
from services.storage.position import Position
from services.storage.rows import first_row

_COLUMNS = """id, display_name, size_bytes, sha256, object_key, example_count, message_count, messages_by_role,
    assistant_character_count, without_system_count, duplicate_count, create_time"""
_INSERT = f"""
    INSERT INTO storage.dataset (id, display_name, size_bytes, sha256, object_key, example_count, message_count, messages_by_role,
        assistant_character_count, without_system_count, duplicate_count, request_id)
    VALUES (%(id)s, %(display_name)s, %(size_bytes)s, %(sha256)s, %(object_key)s, %(example_count)s, %(message_count)s,
        %(messages_by_role)s, %(assistant_character_count)s, %(without_system_count)s, %(duplicate_count)s, %(request_id)s)
    ON CONFLICT (request_id) DO NOTHING
    RETURNING {_COLUMNS}"""  # noqa: S608 - constants only
_OF_REQUEST = f"SELECT {_COLUMNS} FROM storage.dataset WHERE request_id = %(request_id)s"  # noqa: S608
_ONE = f"SELECT {_COLUMNS} FROM storage.dataset WHERE id = %(id)s"  # noqa: S608
_PAGE = f"""
    SELECT {_COLUMNS} FROM storage.dataset
    WHERE %(time)s::timestamptz IS NULL OR (create_time, id) < (%(time)s, %(id)s)
    ORDER BY create_time DESC, id DESC
    LIMIT %(limit)s"""  # noqa: S608
_DELETE = f"DELETE FROM storage.dataset WHERE id = %(id)s RETURNING {_COLUMNS}"  # noqa: S608


class DatasetRepository(Protocol):
    """What the service asks about datasets. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def add(self, draft: DatasetDraft) -> Dataset:
        """Commits a dataset, or returns the first of the same request_id.

        Raises ServiceError (REQUEST_ID_REUSED) when that one has other bytes.
        """

    async def get(self, identifier: uuid.UUID) -> Dataset:
        """One dataset; raises NotFound (DATASET_NOT_FOUND)."""

    async def page(self, limit: int, after: Position | None) -> Sequence[Dataset]:
        """At most `limit` datasets older than `after`, newest first."""

    async def delete(self, identifier: uuid.UUID) -> Dataset:
        """Removes the row and returns what it said; raises NotFound (DATASET_NOT_FOUND)."""


class PostgresDatasetRepository:
    """Datasets in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, draft: DatasetDraft) -> Dataset:
        """Commits a dataset, or returns the first of the same request_id; see DatasetRepository."""
        async with transaction(self._pool) as connection:
            # A concurrent upload of the same request_id makes the insert wait, so afterwards one of the two queries finds a row,
            # unless the other dataset is deleted in between; then the next insert succeeds.
            while True:
                row = await first_row(connection, _INSERT, _parameters(draft))
                row = row or await first_row(connection, _OF_REQUEST, {"request_id": draft.request_id})
                if row is not None:
                    return same_request(_dataset(row), draft)

    async def get(self, identifier: uuid.UUID) -> Dataset:
        """One dataset; raises NotFound."""
        async with transaction(self._pool) as connection:
            return _found(await first_row(connection, _ONE, {"id": identifier}), identifier)

    async def page(self, limit: int, after: Position | None) -> list[Dataset]:
        """At most `limit` datasets older than `after`, newest first."""
        parameters = {"limit": limit, "time": after and after.create_time, "id": after and after.id}
        async with transaction(self._pool) as connection:
            return [_dataset(row) async for row in await connection.execute(_PAGE, parameters)]

    async def delete(self, identifier: uuid.UUID) -> Dataset:
        """Removes the row; raises NotFound."""
        async with transaction(self._pool) as connection:
            return _found(await first_row(connection, _DELETE, {"id": identifier}), identifier)


def same_request(dataset: Dataset, draft: DatasetDraft) -> Dataset:
    """The dataset when it holds the draft's bytes; raises ServiceError (REQUEST_ID_REUSED) otherwise."""
    if dataset.sha256 != draft.sha256:
        message = f"request_id {draft.request_id} was used for {dataset.name}, which has other bytes"
        hint = "Use a new request_id for a different file."
        raise ServiceError("REQUEST_ID_REUSED", message, hint=hint, metadata={"dataset": dataset.name})
    return dataset


def _found(row: DictRow | None, identifier: uuid.UUID) -> Dataset:
    if row is None:
        raise NotFound("DATASET_NOT_FOUND", dataset_name(identifier))
    return _dataset(row)


def _parameters(draft: DatasetDraft) -> dict[str, Any]:
    statistics = draft.statistics
    return {
        "id": draft.id,
        "display_name": draft.display_name,
        "size_bytes": draft.size_bytes,
        "sha256": draft.sha256,
        "object_key": draft.object_key,
        "example_count": statistics.example_count,
        "message_count": statistics.message_count,
        "messages_by_role": Jsonb(dict(statistics.messages_by_role)),
        "assistant_character_count": statistics.assistant_character_count,
        "without_system_count": statistics.without_system_count,
        "duplicate_count": statistics.duplicate_count,
        "request_id": draft.request_id,
    }


def _dataset(row: DictRow) -> Dataset:
    statistics = DatasetStatistics(
        example_count=row["example_count"],
        message_count=row["message_count"],
        messages_by_role=row["messages_by_role"],
        assistant_character_count=row["assistant_character_count"],
        without_system_count=row["without_system_count"],
        duplicate_count=row["duplicate_count"],
    )
    return Dataset(
        id=row["id"],
        display_name=row["display_name"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        object_key=row["object_key"],
        statistics=statistics,
        create_time=row["create_time"],
    )
