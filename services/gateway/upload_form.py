"""The form of POST /v1/files as the messages storage wants; nothing is held back but one piece."""

from collections.abc import AsyncGenerator

from starlette.requests import Request

from services.gateway.failures import refused
from services.gateway.file_conversion import FINE_TUNE
from services.gateway.multipart import Chunk, Field, FileStart, pieces
from tunesmith.v1.dataset_service_pb2 import DatasetHeader, UploadDatasetRequest

_MAX_CHUNK = 1024 * 1024
_MAX_NAME = 128
_NOT_EMPTY = "the name of a file may not be empty"


async def upload_requests(request: Request, limit: int, request_id: str) -> AsyncGenerator[UploadDatasetRequest]:
    """The header, then the bytes. Fields may come before or after the file; a wrong one ends the upload before it counts.

    Raises InvalidArgument naming the field.
    """
    has_file, purpose = False, ""
    async for piece in pieces(request, limit):
        match piece:
            case FileStart(name="file") if not has_file:
                has_file = True
                yield UploadDatasetRequest(
                    header=DatasetHeader(display_name=_display_name(piece.filename), request_id=request_id)
                )
            case FileStart():
                raise refused(piece.name, "one file is expected, in the field `file`")
            case Chunk():
                for start in range(0, len(piece.data), _MAX_CHUNK):
                    yield UploadDatasetRequest(chunk=piece.data[start : start + _MAX_CHUNK])
            case Field(name="purpose"):
                purpose = check_purpose(piece.value)
            case Field():
                _refuse_expiry(piece.name)
    if not has_file:
        raise refused("file", "is required")
    check_purpose(purpose)


def check_purpose(purpose: str) -> str:
    """`fine-tune`: nothing but training data can be stored. Raises InvalidArgument."""
    if not purpose:
        raise refused("purpose", "is required")
    if purpose != FINE_TUNE:
        raise refused("purpose", f"{purpose[:40]!r} is not supported; files hold training data: use {FINE_TUNE!r}")
    return purpose


def _refuse_expiry(name: str) -> None:
    # Keeping what the caller wants gone would be worse than refusing it.
    if name.startswith("expires_after"):
        raise refused("expires_after", "is not supported: a file is kept until it is deleted")


def _display_name(filename: str) -> str:
    if not filename:
        raise refused("file", _NOT_EMPTY)
    return filename[-_MAX_NAME:]
