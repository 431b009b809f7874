"""The forms of POST /v1/files and of parts of an upload as the messages storage wants; nothing is held back but one piece."""

from collections.abc import AsyncGenerator

from starlette.requests import Request

from services.gateway.failures import refused
from services.gateway.file_conversion import BATCH, EVALS, FINE_TUNE, MARKS, MAX_NAME
from services.gateway.file_expiry import lifetime_of_form
from services.gateway.multipart import Chunk, Field, FileStart, pieces
from services.gateway.upload_file import UploadFile
from tunesmith.v1.dataset_service_pb2 import DatasetPieceHeader, UploadDatasetPieceRequest, UploadDatasetRequest

_MAX_CHUNK = 1024 * 1024
_NOT_EMPTY = "the name of a file may not be empty"


async def upload_requests(request: Request, limit: int, request_id: str) -> AsyncGenerator[UploadDatasetRequest]:
    """The header, the bytes, the checksum.

    Fields may come before or after the file; a wrong one ends the upload before it counts.

    Raises InvalidArgument naming the field.
    """
    file: UploadFile | None = None
    fields: dict[str, str] = {}
    async for piece in pieces(request, limit):
        match piece:
            case FileStart(name="file") if file is None:
                file = UploadFile(display_name(piece.filename), request_id, fields)
            case FileStart():
                raise refused(piece.name, "one file is expected, in the field `file`")
            case Chunk() if file:
                for message in file.take(piece.data):
                    yield message
            case Field():
                fields[piece.name] = check_purpose(piece.value) if piece.name == "purpose" else piece.value
    if file is None:
        raise refused("file", "is required")
    check_purpose(fields.get("purpose", ""))
    for message in file.end():
        yield message
    # Only now the file counts: to storage, a caller that has gone away looks like one that has come to its end.
    yield UploadDatasetRequest(sha256=file.sha256, late_lifetime_seconds=lifetime_of_form(fields))


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


def check_purpose(purpose: str, known: tuple[str, ...] = (FINE_TUNE, BATCH, EVALS)) -> str:
    """What a file may be for: training data, requests of a batch, items of evals. Raises InvalidArgument."""
    if not purpose:
        raise refused("purpose", "is required")
    if purpose not in known:
        raise refused("purpose", f"{purpose[:40]!r} is not supported; use {' or '.join(map(repr, known))}")
    return purpose


def display_name(filename: str) -> str:
    """What storage calls a file of this name; raises InvalidArgument for none."""
    if not filename:
        raise refused("file", _NOT_EMPTY)
    if mark := next((mark for mark in MARKS.values() if filename.startswith(mark)), ""):
        raise refused("file", f"names that begin with {mark} are Tunesmith's own")
    return filename[-MAX_NAME:]
