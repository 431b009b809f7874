"""The archive of events in the storage service: the adapter of `event_segments.Archive`; made in `__main__`."""

import uuid

import grpc

from services.common.channels import call_metadata, translated
from tunesmith.v1 import event_archive_service_pb2 as api
from tunesmith.v1 import event_archive_service_pb2_grpc

_REASON = "STORAGE_UNAVAILABLE"


class GrpcArchive:
    """`deadline` caps each call, in seconds."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "", deadline: float = 30.0) -> None:
        self._stub = event_archive_service_pb2_grpc.EventArchiveServiceStub(channel)
        self._api_key = api_key
        self._deadline = deadline

    async def put_segment(self, task_id: uuid.UUID, sha256: str, content: bytes) -> None:
        """See Archive."""
        request = api.PutEventSegmentRequest(task=f"tasks/{task_id}", sha256=sha256, content=content)
        with translated(_REASON, "storage"):
            await self._stub.PutEventSegment(request, timeout=self._deadline, metadata=call_metadata(self._api_key))

    async def segment(self, task_id: uuid.UUID, sha256: str) -> bytes:
        """See Archive."""
        request = api.GetEventSegmentRequest(task=f"tasks/{task_id}", sha256=sha256)
        with translated(_REASON, "storage"):
            answer = await self._stub.GetEventSegment(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return answer.content

    async def forget_segments(self, task_id: uuid.UUID) -> None:
        """See Archive."""
        request = api.DeleteEventSegmentsRequest(task=f"tasks/{task_id}")
        with translated(_REASON, "storage"):
            await self._stub.DeleteEventSegments(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
