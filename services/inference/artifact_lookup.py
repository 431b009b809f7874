"""Asks storage for the newest artifact of a task; the resolver's only question that BundleStore does not answer."""

import grpc

from services.common.channels import call_metadata, translated
from tunesmith.v1 import artifact_service_pb2, artifact_service_pb2_grpc

_CALL_SECONDS = 20.0


class ArtifactLookup:
    """ArtifactService behind `channel`, reduced to one question."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "") -> None:
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._api_key = api_key

    async def newest(self, task: str) -> str | None:
        """Name of the newest artifact of `tasks/{uuid}`, None when it has none; raises Unavailable (STORAGE_UNAVAILABLE)."""
        request = artifact_service_pb2.ListArtifactsRequest(task=task, page_size=1)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            page = await self._artifacts.ListArtifacts(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return page.artifacts[0].name if page.artifacts else None
