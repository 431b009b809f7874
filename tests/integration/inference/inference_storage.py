"""A storage service that serves directories over gRPC: models, adapters, and tasks that made them."""

import functools
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from services.common.errors import NotFound, ServiceError
from services.common.interceptors import EdgeInterceptor
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    base_model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
)

CHUNK = 64 * 1024


class DirectoryStorage(model_service_pb2_grpc.ModelServiceServicer, artifact_service_pb2_grpc.ArtifactServiceServicer):
    """What is stored, by resource name; `expired` artifacts are past their time."""

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.artifacts: dict[str, tuple[Path, str, str]] = {}
        self.expired: set[str] = set()
        self.downloads: list[str] = []
        self.others: dict[str, artifact_pb2.Artifact] = {}
        """Artifacts of which only the record is asked for."""

    def add_artifact(self, name: str, directory: Path, *, base_model: str, task: str) -> None:
        self.artifacts[name] = (directory, base_model, task)

    async def GetBaseModel(self, request: model_service_pb2.GetBaseModelRequest, context: Any) -> base_model_pb2.BaseModel:
        if request.name not in self.models:
            raise NotFound("BASE_MODEL_NOT_FOUND", request.name)
        files = files_of(self.models[request.name])
        return base_model_pb2.BaseModel(name=request.name, files=files, revision=files[0].sha256)

    async def ListBaseModels(
        self, request: model_service_pb2.ListBaseModelsRequest, context: Any
    ) -> model_service_pb2.ListBaseModelsResponse:
        names = sorted(self.models)[: request.page_size]
        return model_service_pb2.ListBaseModelsResponse(base_models=[base_model_pb2.BaseModel(name=name) for name in names])

    async def DownloadModel(
        self, request: model_service_pb2.DownloadModelRequest, context: Any
    ) -> AsyncIterator[model_service_pb2.DownloadModelResponse]:
        self.downloads.append(request.name)
        for chunk in chunks(self.models[request.name] / request.path):
            yield model_service_pb2.DownloadModelResponse(chunk=chunk)

    async def HoldArtifact(self, request: artifact_service_pb2.HoldArtifactRequest, context: Any) -> artifact_pb2.Artifact:
        if request.name in self.expired:
            raise ServiceError("ARTIFACT_EXPIRED", f"{request.name} has expired")
        if request.name not in self.artifacts:
            raise NotFound("ARTIFACT_NOT_FOUND", request.name)
        return self._artifact(request.name)

    async def GetArtifact(self, request: artifact_service_pb2.GetArtifactRequest, context: Any) -> artifact_pb2.Artifact:
        if request.name not in self.others:
            raise NotFound("ARTIFACT_NOT_FOUND", request.name)
        found = self.others[request.name]
        if found.state != artifact_pb2.Artifact.AVAILABLE:
            metadata = {"delete_time": "2026-01-19T00:00:00+00:00"} if found.HasField("delete_time") else {}
            raise ServiceError("ARTIFACT_EXPIRED", f"{request.name} expired at noon", metadata=metadata)
        return found

    async def ListArtifacts(
        self, request: artifact_service_pb2.ListArtifactsRequest, context: Any
    ) -> artifact_service_pb2.ListArtifactsResponse:
        newest_first = [name for name, (_, _, task) in reversed(self.artifacts.items()) if task == request.task]
        page = [self._artifact(name) for name in newest_first[: request.page_size or None]]
        page += [each for each in self.others.values() if each.manifest.task == request.task]
        page = [each for each in page if request.kind in (each.kind, artifact_pb2.Artifact.KIND_UNSPECIFIED)]
        page = [each for each in page if each.state in (request.states or [artifact_pb2.Artifact.AVAILABLE])]
        return artifact_service_pb2.ListArtifactsResponse(artifacts=page)

    async def DownloadArtifact(
        self, request: artifact_service_pb2.DownloadArtifactRequest, context: Any
    ) -> AsyncIterator[artifact_service_pb2.DownloadArtifactResponse]:
        self.downloads.append(request.name)
        for chunk in chunks(self.artifacts[request.name][0] / request.path):
            yield artifact_service_pb2.DownloadArtifactResponse(chunk=chunk)

    def _artifact(self, name: str) -> artifact_pb2.Artifact:
        directory, base_model, task = self.artifacts[name]
        manifest = artifact_pb2.ArtifactManifest(files=files_of(directory), task=task, base_model=base_model)
        kind, state = artifact_pb2.Artifact.ADAPTER, artifact_pb2.Artifact.AVAILABLE
        return artifact_pb2.Artifact(name=name, kind=kind, state=state, manifest=manifest)


@functools.cache
def files_of(directory: Path) -> tuple[artifact_pb2.File, ...]:
    return tuple(_files_of(directory))


def _files_of(directory: Path) -> Iterator[artifact_pb2.File]:
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        yield artifact_pb2.File(path=str(path.relative_to(directory)), size_bytes=len(content), sha256=digest)


def chunks(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    return (content[start : start + CHUNK] for start in range(0, len(content), CHUNK))


@asynccontextmanager
async def serving_storage(storage: DirectoryStorage, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """Serves `storage` inside the block; yields the address."""
    server = grpc.aio.server(interceptors=[EdgeInterceptor()])
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(storage, server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(storage, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
