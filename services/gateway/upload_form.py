"""The forms of POST /v1/files and of parts of an upload as the messages storage wants; nothing is held back but one piece."""

import hashlib
from collections.abc import AsyncGenerator

from starlette.requests import Request

from services.gateway.failures import refused
from services.gateway.file_conversion import FINE_TUNE
from services.gateway.file_expiry import lifetime_of_form
from services.gateway.multipart import Chunk, Field, FileStart, pieces
from tunesmith.v1.dataset_service_pb2 import (
    DatasetHeader,
    DatasetPieceHeader,
    UploadDatasetPieceRequest,
    UploadDatasetRequest,
)

_MAX_CHUNK = 1024 * 1024
_MAX_NAME = 128
_NOT_EMPTY = "the name of a file may not be empty"


async def upload_requests(request: Request, limit: int, request_id: str) -> AsyncGenerator[UploadDatasetRequest]:
    """The header, the bytes, the checksum.

    Fields may come before or after the file; a wrong one ends the upload before it counts.

    Raises InvalidArgument naming the field.
    """
    has_file, digest = False, hashlib.sha256()
    fields: dict[str, str] = {}
    async for piece in pieces(request, limit):
        match piece:
            case FileStart(name="file") if not has_file:
                has_file = True
                name = display_name(piece.filename)
                header = DatasetHeader(display_name=name, request_id=request_id, sha256_follows=True)
                yield UploadDatasetRequest(header=header)
            case FileStart():
                raise refused(piece.name, "one file is expected, in the field `file`")
            case Chunk():
                digest.update(piece.data)
                for start in range(0, len(piece.data), _MAX_CHUNK):
                    yield UploadDatasetRequest(chunk=piece.data[start : start + _MAX_CHUNK])
            case Field():
                fields[piece.name] = check_purpose(piece.value) if piece.name == "purpose" else piece.value
    if not has_file:
        raise refused("file", "is required")
    check_purpose(fields.get("purpose", ""))
    # Only now the file counts: to storage, a caller that has gone away looks like one that has come to its end.
    yield UploadDatasetRequest(sha256=digest.hexdigest(), late_lifetime_seconds=lifetime_of_form(fields))


async def part_requests(request: Request, limit: int, upload: str) -> AsyncGenerator[UploadDatasetPieceRequest]:
    """The form of a part of an upload as messages of a piece; raises InvalidArgument."""
    has_data = False
    async for piece in pieces(request, limit):
        match piece:
            case FileStart(name="data") if not has_data:
                has_data = True
                yield UploadDatasetPieceRequest(header=DatasetPieceHeader(upload=upload))
            case FileStart():
                raise refused(piece.name, "one file is expected, in the field `data`")
            case Chunk():
                for start in range(0, len(piece.data), _MAX_CHUNK):
                    yield UploadDatasetPieceRequest(chunk=piece.data[start : start + _MAX_CHUNK])
    if not has_data:
        raise refused("data", "is required, as a file")


def check_purpose(purpose: str) -> str:
    """`fine-tune`: nothing but training data can be stored. Raises InvalidArgument."""
    if not purpose:
        raise refused("purpose", "is required")
    if purpose != FINE_TUNE:
        raise refused("purpose", f"{purpose[:40]!r} is not supported; files hold training data: use {FINE_TUNE!r}")
    return purpose


def display_name(filename: str) -> str:
    """What storage calls a file of this name; raises InvalidArgument for none."""
    if not filename:
        raise refused("file", _NOT_EMPTY)
    return filename[-_MAX_NAME:]
