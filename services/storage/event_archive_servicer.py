"""The gRPC face of the archive of events: each method checks and calls."""

# ruff: noqa: N802

import re
from typing import Any

import grpc

from services.common.errors import InvalidArgument, Violation
from services.common.names import resource_uuid
from services.storage.event_archive import EventArchive
from tunesmith.v1 import event_archive_service_pb2 as api
from tunesmith.v1 import event_archive_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_BYTES = 3 * 1024 * 1024
_SHA256 = re.compile("[0-9a-f]{64}")


class EventArchiveServicer(event_archive_service_pb2_grpc.EventArchiveServiceServicer):
    """See the proto for what each method promises."""

    def __init__(self, archive: EventArchive) -> None:
        self._archive = archive

    async def PutEventSegment(self, request: api.PutEventSegmentRequest, context: Context) -> api.PutEventSegmentResponse:
        """Keeps a segment."""
        if not 0 < len(request.content) <= _MAX_BYTES:
            raise InvalidArgument(Violation("content", f"{len(request.content)} bytes are not from 1 to {_MAX_BYTES}"))
        await self._archive.put(resource_uuid(request.task, "tasks", "task"), _sha256(request.sha256), request.content)
        return api.PutEventSegmentResponse()

    async def GetEventSegment(self, request: api.GetEventSegmentRequest, context: Context) -> api.GetEventSegmentResponse:
        """Reads a segment."""
        content = await self._archive.get(resource_uuid(request.task, "tasks", "task"), _sha256(request.sha256))
        return api.GetEventSegmentResponse(content=content)

    async def DeleteEventSegments(
        self, request: api.DeleteEventSegmentsRequest, context: Context
    ) -> api.DeleteEventSegmentsResponse:
        """Forgets a task's segments."""
        await self._archive.delete(resource_uuid(request.task, "tasks", "task"))
        return api.DeleteEventSegmentsResponse()


def _sha256(given: str) -> str:
    if not _SHA256.fullmatch(given):
        raise InvalidArgument(Violation("sha256", f"{given[:80]!r} is not 64 hexadecimal digits in lower case"))
    return given
