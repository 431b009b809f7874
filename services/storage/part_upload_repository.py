"""Rows of uploads in parts; all their SQL. Used by the part uploads and by the sweeper."""

import datetime
import uuid
from typing import Any, Protocol

from psycopg.rows import DictRow

from services.common.errors import NotFound
from services.common.postgres import Connection, Pool, transaction
from services.storage.checking.budget import Budget
from services.storage.dataset import DatasetHeader
from services.storage.part_upload import PartUpload, PartUploadDraft, part_upload_name
from services.storage.pending_object_repository import condemn
from services.storage.rows import first_row

_COLUMNS = """id, display_name, sha256, request_id, max_invalid_rows, max_invalid_ratio, size_bytes, object_key, multipart_id,
    dataset, expire_time, lifetime_seconds"""
_INSERT = f"""
    INSERT INTO storage.dataset_upload (id, display_name, sha256, request_id, max_invalid_rows, max_invalid_ratio, size_bytes,
        object_key, multipart_id, expire_time, lifetime_seconds)
    VALUES (%(id)s, %(display_name)s, %(sha256)s, %(request_id)s, %(max_invalid_rows)s, %(max_invalid_ratio)s, %(size_bytes)s,
        %(object_key)s, %(multipart_id)s, storage.clock() + %(lifetime)s, %(lifetime_seconds)s)
    RETURNING {_COLUMNS}"""  # noqa: S608 - constants only
_ONE = f"SELECT {_COLUMNS} FROM storage.dataset_upload WHERE id = %(id)s AND expire_time > storage.clock()"  # noqa: S608
_END = "DELETE FROM storage.dataset_upload WHERE id = %(id)s AND dataset IS NULL RETURNING object_key, size_bytes"
_DROP_EXPIRED = "DELETE FROM storage.dataset_upload WHERE expire_time <= storage.clock()"


class PartUploadRepository(Protocol):
    """What the service asks about uploads in parts. Every method raises Unavailable (POSTGRES_UNAVAILABLE)."""

    async def add(self, draft: PartUploadDraft) -> PartUpload:
        """Commits an upload; its object must be recorded as pending."""

    async def get(self, identifier: uuid.UUID) -> PartUpload:
        """One upload; raises NotFound (UPLOAD_NOT_FOUND) also when it has expired."""

    async def end(self, identifier: uuid.UUID) -> str | None:
        """Removes an upload that is not completed and condemns its object; returns its key, None = there was none."""


class PostgresPartUploadRepository:
    """Uploads in the schema `storage`; they expire `lifetime` after they began, by the clock of the database."""

    def __init__(self, pool: Pool, lifetime: datetime.timedelta) -> None:
        self._pool = pool
        self._lifetime = lifetime

    async def add(self, draft: PartUploadDraft) -> PartUpload:
        """Commits an upload; its object must be recorded as pending."""
        parameters = _parameters(draft) | {"lifetime": self._lifetime}
        async with transaction(self._pool) as connection:
            return _found(await first_row(connection, _INSERT, parameters), draft.id)

    async def get(self, identifier: uuid.UUID) -> PartUpload:
        """One upload; raises NotFound."""
        async with transaction(self._pool) as connection:
            return _found(await first_row(connection, _ONE, {"id": identifier}), identifier)

    async def end(self, identifier: uuid.UUID) -> str | None:
        """Removes an upload that is not completed and condemns its object."""
        async with transaction(self._pool) as connection:
            row = await first_row(connection, _END, {"id": identifier})
            if row is None:
                return None
            await condemn(connection, {row["object_key"]: row["size_bytes"]})
            return str(row["object_key"])


async def drop_expired_uploads(connection: Connection) -> None:
    """Forgets uploads past their time in the caller's transaction; their objects are pending and just as old."""
    await connection.execute(_DROP_EXPIRED)


def _found(row: DictRow | None, identifier: uuid.UUID) -> PartUpload:
    if row is None:
        raise upload_not_found(identifier)
    return PartUpload(
        id=row["id"],
        header=DatasetHeader(
            row["display_name"],
            row["sha256"],
            row["request_id"],
            Budget(row["max_invalid_rows"], row["max_invalid_ratio"]),
            datetime.timedelta(seconds=row["lifetime_seconds"]) if row["lifetime_seconds"] else None,
        ),
        size_bytes=row["size_bytes"],
        object_key=row["object_key"],
        multipart_id=row["multipart_id"],
        dataset=row["dataset"],
        expire_time=row["expire_time"],
    )


def upload_not_found(identifier: uuid.UUID) -> NotFound:
    """The error for an upload that never was, was ended, or is past its time."""
    name = part_upload_name(identifier)
    return NotFound("UPLOAD_NOT_FOUND", name, message=f"{name} does not exist, was ended, or has expired")


def _parameters(draft: PartUploadDraft) -> dict[str, Any]:
    header = draft.header
    return {
        "id": draft.id,
        "display_name": header.display_name,
        "sha256": header.sha256,
        "request_id": header.request_id,
        "max_invalid_rows": header.budget.max_rows,
        "max_invalid_ratio": header.budget.max_ratio,
        "lifetime_seconds": header.lifetime.total_seconds() if header.lifetime else None,
        "size_bytes": draft.size_bytes,
        "object_key": draft.object_key,
        "multipart_id": draft.multipart_id,
    }
