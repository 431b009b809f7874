"""Announcements about artifacts, as storage lists them; used by what tells them by webhooks."""

import datetime
import uuid
from collections.abc import Sequence

import grpc

from services.common.channels import call_metadata, translated
from services.common.names import resource_uuid
from services.task_manager.domain.webhook import ArtifactNotice
from tunesmith.v1 import artifact_service_pb2, artifact_service_pb2_grpc

_Kind = artifact_service_pb2.ArtifactNotice.Kind
_SECONDS = 10.0
_PAGE = 200


class GrpcArtifactNotices:
    """The storage service."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "") -> None:
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._api_key = api_key

    async def after(self, sequence: int) -> tuple[Sequence[ArtifactNotice], int]:
        """The next announcements and the number of the last of them, `sequence` when there is none; raises Unavailable."""
        request = artifact_service_pb2.ListArtifactNoticesRequest(after_sequence=sequence, page_size=_PAGE)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            page = await self._artifacts.ListArtifactNotices(request, timeout=_SECONDS, metadata=call_metadata(self._api_key))
        return [_notice(each) for each in page.notices], page.last_sequence


def _notice(notice: artifact_service_pb2.ArtifactNotice) -> ArtifactNotice:
    return ArtifactNotice(
        # A kind of newer storage has a name that nobody can have asked for.
        kind=f"artifact.{_Kind.Name(notice.kind).lower()}" if notice.kind in _Kind.values() else "",
        artifact=uuid.UUID(str(resource_uuid(notice.artifact, "artifacts"))),
        task=uuid.UUID(str(resource_uuid(notice.task, "tasks"))),
        days=notice.days,
        expire_time=notice.expire_time.ToDatetime(datetime.UTC),
    )
