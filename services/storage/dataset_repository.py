"""Rows of datasets; all their SQL. Used by the dataset uploads, the deletion and the servicer."""

import struct
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from services.common.errors import NotFound, ServiceError
from services.common.postgres import Connection, Pool, transaction
from services.storage.blob_repository import add_blobs, drop_unused_blobs
from services.storage.dataset import ORIGINAL, ROWS, Dataset, DatasetDraft, RowIndex, dataset_name
from services.storage.dataset_filter import EVERYTHING, DatasetFilter
from services.storage.file import StoredFile
from services.storage.position import Position
from services.storage.rows import first_row

_COLUMNS = """dataset.id, dataset.display_name, dataset.version, dataset.format, dataset.example_count, dataset.statistics,
    dataset.warnings, dataset.dropped_rows_by_reason, dataset.create_time, dataset.expire_time, dataset.sha256, (
        SELECT jsonb_agg(jsonb_build_array(file.content, blob.size_bytes, blob.sha256, blob.object_key, blob.damage, blob.blake3)
            ORDER BY file.content)
        FROM storage.dataset_file AS file JOIN storage.blob USING (sha256) WHERE file.dataset = dataset.id
    ) AS files"""
# A dataset somebody is about to delete is not there, unless they died over it.
_THERE = "(dataset.deletion IS NULL OR dataset.deletion_expire_time <= now())"
# Uploads of one display name pass here one after another.
_LOCK_SERIES = """
    INSERT INTO storage.dataset_series AS series (display_name, last_version) VALUES (%(display_name)s, 0)
    ON CONFLICT (display_name) DO UPDATE SET last_version = series.last_version"""
_NEXT_VERSION = """
    UPDATE storage.dataset_series SET last_version = last_version + 1 WHERE display_name = %(display_name)s
    RETURNING last_version"""
_INSERT = """
    INSERT INTO storage.dataset (id, display_name, version, size_bytes, sha256, format, example_count, statistics, warnings,
        dropped_rows_by_reason, request_id, expire_time)
    VALUES (%(id)s, %(display_name)s, %(version)s, %(size_bytes)s, %(sha256)s, %(format)s, %(example_count)s, %(statistics)s,
        %(warnings)s, %(dropped_rows_by_reason)s, %(request_id)s, storage.clock() + %(lifetime)s)
    ON CONFLICT (request_id) DO NOTHING
    RETURNING id"""
_INSERT_FILE = """
    INSERT INTO storage.dataset_file (dataset, content, sha256) VALUES (%(dataset)s, %(content)s, %(sha256)s)"""
_INSERT_INDEX = """
    INSERT INTO storage.row_index (rows_sha256, every, offsets) VALUES (%(rows_sha256)s, %(every)s, %(offsets)s)
    ON CONFLICT (rows_sha256) DO NOTHING"""
_COMPLETE_UPLOAD = "UPDATE storage.dataset_upload SET dataset = %(dataset)s WHERE id = %(upload)s RETURNING id"
_OF_REQUEST = f"""
    SELECT {_COLUMNS} FROM storage.dataset AS dataset
    WHERE dataset.request_id = %(request_id)s FOR KEY SHARE OF dataset"""  # noqa: S608 - constants only
_OF_CONTENT = f"""
    SELECT {_COLUMNS} FROM storage.dataset AS dataset
    WHERE dataset.display_name = %(display_name)s AND dataset.sha256 = %(sha256)s AND {_THERE}
    ORDER BY dataset.version LIMIT 1 FOR KEY SHARE OF dataset"""  # noqa: S608
# No bound beats any bound: greatest() would leave NULL out.
_KEEP_LONGER = """
    UPDATE storage.dataset SET expire_time = CASE WHEN %(lifetime)s::interval IS NULL THEN NULL
        ELSE greatest(expire_time, storage.clock() + %(lifetime)s::interval) END
    WHERE id = %(id)s AND expire_time IS NOT NULL"""
_EXPIRED = "SELECT id FROM storage.dataset WHERE expire_time <= storage.clock() ORDER BY expire_time LIMIT %(limit)s"
_ONE = f"SELECT {_COLUMNS} FROM storage.dataset AS dataset WHERE dataset.id = %(id)s AND {_THERE}"  # noqa: S608
_PAGE = f"""
    SELECT {_COLUMNS} FROM storage.dataset AS dataset
    WHERE {_THERE}
        AND (%(time)s::timestamptz IS NULL OR (dataset.create_time, dataset.id) < (%(time)s, %(id)s))
        AND (%(display_name)s = '' OR dataset.display_name = %(display_name)s)
        AND strpos(lower(dataset.display_name), lower(%(contains)s)) > 0
        AND (%(formats)s::text[] = '{{}}' OR dataset.format = ANY(%(formats)s))
    ORDER BY dataset.create_time DESC, dataset.id DESC
    LIMIT %(limit)s"""  # noqa: S608
# A minute is ample for the one question a deletion asks.
_MARK = f"""
    UPDATE storage.dataset AS dataset
    SET deletion = %(deletion)s, deletion_expire_time = now() + interval '1 minute'
    WHERE dataset.id = %(id)s AND {_THERE}
    RETURNING dataset.id"""  # noqa: S608
_UNMARK = """
    UPDATE storage.dataset SET deletion = NULL, deletion_expire_time = NULL WHERE id = %(id)s AND deletion = %(deletion)s"""
_CONTENTS = """
    SELECT file.sha256 FROM storage.dataset_file AS file JOIN storage.dataset ON dataset.id = file.dataset
    WHERE dataset.id = %(id)s AND dataset.deletion = %(deletion)s AND dataset.deletion_expire_time > now()
    FOR UPDATE OF dataset"""
_DELETE = "DELETE FROM storage.dataset WHERE id = %(id)s"
_NEAREST = """
    SELECT every, substring(offsets FROM least((%(row)s - 1) / every, length(offsets) / 8 - 1)::int * 8 + 1 FOR 8) AS offset,
        least((%(row)s - 1) / every, length(offsets) / 8 - 1) * every + 1 AS row
    FROM storage.row_index WHERE rows_sha256 = %(rows_sha256)s AND length(offsets) > 0"""


class DatasetRepository(Protocol):
    """What the service asks about datasets. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def add(self, draft: DatasetDraft, keys: Mapping[str, str]) -> Dataset:
        """Commits a dataset as the next version of its name, or returns the first of the same request or of the same content.

        `keys` are the object keys of its files by SHA-256. Raises ServiceError: REQUEST_ID_REUSED when the request had other
        bytes, UPLOAD_EXPIRED when its objects or its upload in parts were removed meanwhile.
        """

    async def of_request(self, request_id: uuid.UUID) -> Dataset | None:
        """The dataset a request has made; None when it has made none."""

    async def get(self, identifier: uuid.UUID) -> Dataset:
        """One dataset; raises NotFound (DATASET_NOT_FOUND)."""

    async def page(self, limit: int, after: Position | None, which: DatasetFilter = EVERYTHING) -> Sequence[Dataset]:
        """At most `limit` datasets older than `after`, newest first."""

    async def begin_deletion(self, identifier: uuid.UUID, deletion: uuid.UUID) -> None:
        """Hides a dataset for a minute, in the name of `deletion`; raises NotFound (DATASET_NOT_FOUND)."""

    async def end_deletion(self, identifier: uuid.UUID, deletion: uuid.UUID) -> None:
        """Puts back what `begin_deletion` has hidden."""

    async def delete(self, identifier: uuid.UUID, deletion: uuid.UUID) -> Sequence[str]:
        """Removes a dataset hidden by `deletion`; returns the keys of the objects no row refers to any more.

        Raises NotFound (DATASET_NOT_FOUND) when it is not hidden by `deletion` any more.
        """

    async def expired(self, limit: int) -> Sequence[uuid.UUID]:
        """At most `limit` datasets whose time has come, those first that are due longest."""

    async def nearest_row(self, rows_sha256: str, row: int) -> tuple[int, int]:
        """The last row up to `row` whose place is known, from 1, and its first byte; (1, 0) when there is no index."""


class PostgresDatasetRepository:
    """Datasets in the schema `storage`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, draft: DatasetDraft, keys: Mapping[str, str]) -> Dataset:
        """Commits a dataset, or returns the first of the same request or content; see DatasetRepository."""
        async with transaction(self._pool) as connection:
            await connection.execute(_LOCK_SERIES, {"display_name": draft.header.display_name})
            dataset = await _known(connection, draft)
            # A concurrent upload of the same request_id under another name makes the insert wait, so afterwards one of the two
            # finds a row, unless the other dataset is deleted in between; then the next insert succeeds.
            while dataset is None:
                dataset = await _inserted(connection, draft, keys) or await _known(connection, draft)
            if draft.upload is not None:
                parameters = {"dataset": dataset.id, "upload": draft.upload}
                refuse_lost_upload(await first_row(connection, _COMPLETE_UPLOAD, parameters) is not None)
            return dataset

    async def of_request(self, request_id: uuid.UUID) -> Dataset | None:
        """The dataset a request has made."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _OF_REQUEST, {"request_id": request_id})
        return _dataset(row) if row else None

    async def get(self, identifier: uuid.UUID) -> Dataset:
        """One dataset; raises NotFound."""
        async with transaction(self._pool) as connection:
            return _found(await first_row(connection, _ONE, {"id": identifier}), identifier)

    async def page(self, limit: int, after: Position | None, which: DatasetFilter = EVERYTHING) -> list[Dataset]:
        """At most `limit` datasets older than `after`, newest first."""
        parameters = {
            "limit": limit,
            "time": after and after.create_time,
            "id": after and after.id,
            "display_name": which.display_name,
            "contains": which.display_name_contains,
            "formats": list(which.formats),
        }
        async with transaction(self._pool) as connection:
            return [_dataset(row) async for row in await connection.execute(_PAGE, parameters)]

    async def begin_deletion(self, identifier: uuid.UUID, deletion: uuid.UUID) -> None:
        """Hides a dataset for a minute; raises NotFound."""
        async with transaction(self._pool) as connection:
            if not await first_row(connection, _MARK, {"id": identifier, "deletion": deletion}):
                raise NotFound("DATASET_NOT_FOUND", dataset_name(identifier))

    async def end_deletion(self, identifier: uuid.UUID, deletion: uuid.UUID) -> None:
        """Puts back what `begin_deletion` has hidden."""
        async with transaction(self._pool) as connection:
            await connection.execute(_UNMARK, {"id": identifier, "deletion": deletion})

    async def delete(self, identifier: uuid.UUID, deletion: uuid.UUID) -> list[str]:
        """Removes a dataset hidden by `deletion`; raises NotFound."""
        async with transaction(self._pool) as connection:
            cursor = await connection.execute(_CONTENTS, {"id": identifier, "deletion": deletion})
            contents = {row["sha256"] async for row in cursor}
            if not contents:
                raise NotFound("DATASET_NOT_FOUND", dataset_name(identifier))
            await connection.execute(_DELETE, {"id": identifier})
            return await drop_unused_blobs(connection, contents)

    async def expired(self, limit: int) -> list[uuid.UUID]:
        """At most `limit` datasets whose time has come."""
        async with transaction(self._pool) as connection:
            return [row["id"] async for row in await connection.execute(_EXPIRED, {"limit": limit})]

    async def nearest_row(self, rows_sha256: str, row: int) -> tuple[int, int]:
        """The last row up to `row` whose place is known, and its first byte."""
        async with transaction(self._pool) as connection:
            found = await first_row(connection, _NEAREST, {"rows_sha256": rows_sha256, "row": row})
        return (found["row"], int.from_bytes(found["offset"], "big")) if found else (1, 0)


def same_request(dataset: Dataset, draft: DatasetDraft) -> Dataset:
    """The dataset when it holds the draft's bytes; raises ServiceError (REQUEST_ID_REUSED) otherwise."""
    if dataset.original.sha256 != draft.sha256:
        message = f"request_id {draft.header.request_id} was used for {dataset.name}, which has other bytes"
        hint = "Use a new request_id for a different file."
        raise ServiceError("REQUEST_ID_REUSED", message, hint=hint, metadata={"dataset": dataset.name})
    return dataset


def refuse_lost_upload(there: bool) -> None:
    """Raises ServiceError (UPLOAD_EXPIRED) when an upload in parts was ended while it was being completed."""
    if not there:
        raise ServiceError("UPLOAD_EXPIRED", "the upload was ended while its rows were being checked")


async def _known(connection: Connection, draft: DatasetDraft) -> Dataset | None:
    header = draft.header
    if header.request_id is not None:
        row = await first_row(connection, _OF_REQUEST, {"request_id": header.request_id})
        if row is not None:
            return same_request(_dataset(row), draft)
    content = {"display_name": header.display_name, "sha256": draft.sha256}
    row = await first_row(connection, _OF_CONTENT, content)
    if row is not None and row["expire_time"] is not None:
        await connection.execute(_KEEP_LONGER, {"id": row["id"], "lifetime": header.lifetime})
        row = await first_row(connection, _OF_CONTENT, content)
    return _dataset(row) if row else None


async def _inserted(connection: Connection, draft: DatasetDraft, keys: Mapping[str, str]) -> Dataset | None:
    """The new row; None when the request_id was used in between."""
    version = await first_row(connection, _NEXT_VERSION, {"display_name": draft.header.display_name})
    assert version is not None, "the series was locked in this transaction"
    if not await first_row(connection, _INSERT, _parameters(draft, version["last_version"])):
        return None
    for file in await add_blobs(connection, draft.files, keys):
        parameters = {"dataset": draft.id, "content": file.path, "sha256": file.sha256}
        await connection.execute(_INSERT_FILE, parameters)
        if file.path == ROWS:
            await connection.execute(_INSERT_INDEX, _index_parameters(file.sha256, draft.index))
    return _found(await first_row(connection, _ONE, {"id": draft.id}), draft.id)


def _found(row: DictRow | None, identifier: uuid.UUID) -> Dataset:
    if row is None:
        raise NotFound("DATASET_NOT_FOUND", dataset_name(identifier))
    return _dataset(row)


def _parameters(draft: DatasetDraft, version: int) -> dict[str, Any]:
    return {
        "id": draft.id,
        "display_name": draft.header.display_name,
        "version": version,
        "size_bytes": next(file.size_bytes for file in draft.files if file.path == ORIGINAL),
        "sha256": draft.sha256,
        "format": draft.format,
        "example_count": draft.example_count,
        "statistics": Jsonb(draft.statistics),
        "warnings": Jsonb(list(draft.warnings)),
        "dropped_rows_by_reason": Jsonb(dict(draft.dropped_rows_by_reason)),
        "request_id": draft.header.request_id,
        "lifetime": draft.header.lifetime,
    }


def _index_parameters(rows_sha256: str, index: RowIndex) -> dict[str, Any]:
    offsets = struct.pack(f">{len(index.offsets)}q", *index.offsets)
    return {"rows_sha256": rows_sha256, "every": index.every, "offsets": offsets}


def _dataset(row: DictRow) -> Dataset:
    return Dataset(
        id=row["id"],
        display_name=row["display_name"],
        version=row["version"],
        format=row["format"],
        example_count=row["example_count"],
        statistics=row["statistics"],
        warnings=row["warnings"],
        dropped_rows_by_reason=row["dropped_rows_by_reason"],
        files=tuple(StoredFile(*file) for file in row["files"]),
        create_time=row["create_time"],
        expire_time=row["expire_time"],
    )
