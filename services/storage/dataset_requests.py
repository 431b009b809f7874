"""Requests of DatasetService to domain values; every bad field is named. Used by the dataset servicer."""

import dataclasses
import datetime
import re
import uuid
from collections.abc import Iterator

from structlog.contextvars import bind_contextvars

from services.common.errors import Violation
from services.common.names import resource_uuid
from services.storage.checking.budget import Budget
from services.storage.dataset import DatasetHeader
from services.storage.dataset_filter import DatasetFilter
from services.storage.dataset_pieces import MAX_PIECES, JoinedFile
from services.storage.file import is_sha256
from services.storage.part_upload import MAX_FILE_BYTES
from services.storage.request_fields import refuse, text_violations
from services.storage.upload_stream import Seal
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

MAX_PREVIEW_ROWS = 20
MIN_LIFETIME, MAX_LIFETIME = 3600, 30 * 86_400
"""Of a dataset that is removed by itself, in seconds."""
_MD5 = re.compile("[0-9a-f]{32}")


def dataset_id(name: str, field: str = "name") -> uuid.UUID:
    """The id in a dataset's name; raises InvalidArgument (INVALID_NAME)."""
    identifier = resource_uuid(name, "datasets", field)
    bind_contextvars(**{"dataset" if field == "name" else field: str(identifier)})
    return identifier


def upload_id(name: str) -> uuid.UUID:
    """The id in the name of an upload in parts; raises InvalidArgument (INVALID_NAME)."""
    identifier = resource_uuid(name, "datasetUploads")
    bind_contextvars(upload=str(identifier))
    return identifier


def header_of(header: dataset_service_pb2.DatasetHeader) -> DatasetHeader:
    """The header of an upload; raises InvalidArgument."""
    refuse(list(_header_violations(header)))
    budget = Budget(
        header.max_invalid_rows if header.HasField("max_invalid_rows") else None,
        header.max_invalid_ratio if header.HasField("max_invalid_ratio") else None,
    )
    request_id = uuid.UUID(header.request_id) if header.request_id else None
    lifetime = datetime.timedelta(seconds=header.lifetime_seconds) if header.HasField("lifetime_seconds") else None
    return DatasetHeader(header.display_name, header.sha256, request_id, budget, lifetime)


def with_lifetime(header: DatasetHeader, seal: Seal) -> DatasetHeader:
    """The header with what its stream said at the end; raises InvalidArgument."""
    if seal.lifetime_seconds is None:
        return header
    refuse(list(_lifetime_violations("late_lifetime_seconds", seal.lifetime_seconds)))
    return dataclasses.replace(header, lifetime=datetime.timedelta(seconds=seal.lifetime_seconds))


def part_upload_of(request: dataset_service_pb2.CreateDatasetUploadRequest) -> tuple[DatasetHeader, int]:
    """Header and size of an upload in parts; raises InvalidArgument."""
    violations = list(_header_violations(request.header))
    if not 1 <= request.size_bytes <= MAX_FILE_BYTES:
        violations.append(Violation("size_bytes", f"{request.size_bytes} is not from 1 to {MAX_FILE_BYTES}"))
    refuse(violations)
    return header_of(request.header), request.size_bytes


def piece_upload_id(upload: str, field: str) -> uuid.UUID:
    """The UUID of an upload in pieces; raises InvalidArgument."""
    if not _is_uuid(upload):
        refuse([Violation(field, f"{upload[:80]!r} is not a UUID")])
    return uuid.UUID(upload)


def joined_file_of(request: dataset_service_pb2.JoinDatasetPiecesRequest) -> JoinedFile:
    """What to make of which pieces; raises InvalidArgument."""
    violations = list(_header_violations(request.header))
    if not 1 <= len(request.pieces) <= MAX_PIECES:
        violations.append(Violation("pieces", f"{len(request.pieces)} are not from 1 to {MAX_PIECES}"))
    if not 1 <= request.size_bytes <= MAX_FILE_BYTES:
        violations.append(Violation("size_bytes", f"{request.size_bytes} is not from 1 to {MAX_FILE_BYTES}"))
    if request.md5 and not _MD5.fullmatch(request.md5):
        violations.append(Violation("md5", f"{request.md5[:80]!r} is not 32 lower-case hexadecimal digits"))
    refuse(violations)
    upload = piece_upload_id(request.upload, "upload")
    pieces = tuple(resource_uuid(piece, "datasetPieces", f"pieces[{index}]") for index, piece in enumerate(request.pieces))
    header = dataclasses.replace(header_of(request.header), request_id=upload)
    return JoinedFile(upload, header, pieces, request.size_bytes, request.md5)


def filter_of(request: dataset_service_pb2.ListDatasetsRequest) -> DatasetFilter:
    """Which datasets to list; raises InvalidArgument."""
    known = {number for number in dataset_pb2.Dataset.Format.values() if number}
    violations = [
        *text_violations(request.display_name_contains, "display_name_contains", required=False),
        *text_violations(request.display_name, "display_name", required=False),
        *(Violation("formats", f"{number} is no format") for number in request.formats if number not in known),
    ]
    refuse(violations)
    formats = tuple(dataset_pb2.Dataset.Format.Name(number) for number in request.formats)
    return DatasetFilter(request.display_name_contains, request.display_name, formats)


def preview_range(request: dataset_service_pb2.PreviewDatasetRequest) -> tuple[int, int]:
    """First row and number of rows of a preview; raises InvalidArgument."""
    violations = []
    if request.row < 0:
        violations.append(Violation("row", f"{request.row} is negative; rows count from 1"))
    if not 0 <= request.row_count <= MAX_PREVIEW_ROWS:
        violations.append(Violation("row_count", f"{request.row_count} is not from 1 to {MAX_PREVIEW_ROWS}"))
    refuse(violations)
    return request.row or 1, request.row_count or 1


def _header_violations(header: dataset_service_pb2.DatasetHeader) -> Iterator[Violation]:
    yield from text_violations(header.display_name, "header.display_name")
    if header.sha256 and not is_sha256(header.sha256):
        yield Violation("header.sha256", f"{header.sha256[:80]!r} is not 64 lower-case hexadecimal digits")
    if header.request_id and not _is_uuid(header.request_id):
        yield Violation("header.request_id", f"{header.request_id[:80]!r} is not a UUID")
    if header.max_invalid_rows < 0:
        yield Violation("header.max_invalid_rows", f"{header.max_invalid_rows} is negative")
    # Written so that NaN is refused, too.
    if not 0 <= header.max_invalid_ratio < 1:
        yield Violation("header.max_invalid_ratio", f"{header.max_invalid_ratio:g} is not from 0 to less than 1")
    if header.HasField("lifetime_seconds"):
        yield from _lifetime_violations("header.lifetime_seconds", header.lifetime_seconds)


def _lifetime_violations(field: str, seconds: int) -> Iterator[Violation]:
    if not MIN_LIFETIME <= seconds <= MAX_LIFETIME:
        yield Violation(field, f"{seconds} is not from {MIN_LIFETIME} to {MAX_LIFETIME}")


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
