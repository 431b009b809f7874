"""Asks storage what a task's result and an alias stand for; the resolver's questions that BundleStore does not answer."""

import grpc

from services.common.channels import call_metadata, translated
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc, model_service_pb2, model_service_pb2_grpc

_CALL_SECONDS = 20.0


class ArtifactLookup:
    """Storage behind `channel`, reduced to two questions."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "") -> None:
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._api_key = api_key

    async def newest(self, task: str) -> str | None:
        """Name of the newest result of `tasks/{uuid}`, None when it has none; raises Unavailable (STORAGE_UNAVAILABLE)."""
        request = artifact_service_pb2.ListArtifactsRequest(task=task, page_size=1000)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            page = await self._artifacts.ListArtifacts(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        # A checkpoint continues the task and cannot be chatted with.
        results = (each.name for each in page.artifacts if each.kind != artifact_pb2.Artifact.CHECKPOINT)
        return next(results, None)

    async def version(self, name: str) -> str:
        """Name of the version of a registered model; raises NotFound and Unavailable (STORAGE_UNAVAILABLE)."""
        request = model_service_pb2.GetModelVersionRequest(name=name)
        with translated("STORAGE_UNAVAILABLE", "storage"):
            found = await self._models.GetModelVersion(request, timeout=_CALL_SECONDS, metadata=call_metadata(self._api_key))
        return str(found.name)
