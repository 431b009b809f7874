"""/v1/uploads: parts of any size, several at a time; their order is told at the end."""

import contextlib
import uuid
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies
from services.gateway.failures import refused
from services.gateway.file_conversion import FINE_TUNE, file_object
from services.gateway.file_expiry import lifetime_of
from services.gateway.peers import Peers
from services.gateway.settings import MIB, GatewaySettings
from services.gateway.upload_form import check_purpose, display_name, part_requests
from services.gateway.upload_token import UploadToken, part_id, piece_name, upload_of
from tunesmith.v1 import dataset_service_pb2 as api

_MAX_PART_BYTES = 64 * MIB
_PART_SECONDS, _COMPLETE_SECONDS = 3600.0, 6 * 3600.0


class Uploads:
    """The resource; `now` is the clock in seconds."""

    def __init__(self, peers: Peers, settings: GatewaySettings, now: Callable[[], float]) -> None:
        self._peer = peers.storage
        self._datasets = peers.datasets
        self._settings = settings
        self._now = now

    async def create(self, request: Request) -> Response:
        """POST: nothing is stored yet; a repeat with the same Idempotency-Key means the same parts."""
        body = await bodies.read_json(request, self._settings.max_body_bytes)
        check_purpose(bodies.required(body, "purpose", str), (FINE_TUNE,))  # parts are joined as they are
        size = bodies.required(body, "bytes", int)
        if not 1 <= size <= self._settings.max_upload_bytes:
            raise refused("bytes", f"{size} is not from 1 to {self._settings.max_upload_bytes}")
        identifier = uuid.UUID(bodies.request_id(request, "uploads") or uuid.uuid4().hex)
        filename = display_name(bodies.required(body, "filename", str))
        return JSONResponse(UploadToken(identifier, int(self._now()), size, filename, lifetime_of(body)).upload_object("pending"))

    async def add_part(self, request: Request) -> Response:
        """POST: the part streams to storage while it arrives."""
        upload = self._upload(request)
        form = part_requests(request, _MAX_PART_BYTES, str(upload.id))
        async with contextlib.aclosing(form):
            piece = await self._peer.upload(self._datasets.UploadDatasetPiece, form, _PART_SECONDS)
        part = {"id": part_id(piece.name), "object": "upload.part", "created_at": int(self._now()), "upload_id": str(upload)}
        return JSONResponse(part)

    async def complete(self, request: Request) -> Response:
        """POST: the parts become a file, whose every row is checked; a repeat answers with the same file."""
        upload = self._upload(request)
        body = await bodies.read_json(request, self._settings.max_body_bytes)
        joining = api.JoinDatasetPiecesRequest(
            upload=str(upload.id),
            header=api.DatasetHeader(display_name=upload.filename, lifetime_seconds=upload.lifetime_seconds),
            pieces=[_piece(part, index) for index, part in enumerate(bodies.required(body, "part_ids", list))],
            size_bytes=upload.size_bytes,
            md5=(bodies.optional(body, "md5", str) or "").lower(),
        )
        dataset = await self._peer.call(self._datasets.JoinDatasetPieces, joining, _COMPLETE_SECONDS)
        return JSONResponse(upload.upload_object("completed", file_object(dataset)))

    async def cancel(self, request: Request) -> Response:
        """POST: the parts are removed."""
        upload = self._upload(request)
        removing = api.RemoveDatasetPiecesRequest(upload=str(upload.id))
        await self._peer.call(self._datasets.RemoveDatasetPieces, removing)
        return JSONResponse(upload.upload_object("cancelled"))

    def _upload(self, request: Request) -> UploadToken:
        return upload_of(request.path_params["upload_id"], self._now())


def _piece(part: object, index: int) -> str:
    if isinstance(part, str) and (name := piece_name(part)):
        return name
    raise refused(f"part_ids[{index}]", f"{str(part)[:80]!r} is not the id of a part")
