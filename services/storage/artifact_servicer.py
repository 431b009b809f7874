"""ArtifactService over gRPC: protos to domain values and back."""

# ruff: noqa: N802 - methods are named as in the protos

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf import timestamp_pb2
from grpc.aio import ServicerContext
from structlog.contextvars import bind_contextvars

from services.common.errors import Violation
from services.common.names import resource_uuid
from services.common.paging import page_size
from services.storage.artifact import Artifact, ArtifactDraft
from services.storage.artifact_repository import ArtifactRepository
from services.storage.artifact_upload import ArtifactUpload
from services.storage.file import File, file_violations, find_file
from services.storage.object_store import ObjectStore
from services.storage.position import Position, decode_position, encode_position
from services.storage.request_fields import checked_offset, refuse, text_violations
from services.storage.upload_stream import drained, read_header, read_items
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc

Context = ServicerContext[Any, Any]


class ArtifactServicer(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Keeps what tasks produce."""

    def __init__(
        self, repository: ArtifactRepository, store: ObjectStore, upload: ArtifactUpload, new_id: Callable[[], uuid.UUID]
    ) -> None:
        self._repository = repository
        self._store = store
        self._upload = upload
        self._new_id = new_id

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[artifact_service_pb2.UploadArtifactRequest], context: Context
    ) -> artifact_pb2.Artifact:
        """Stores an artifact under the epoch of its attempt."""
        async with drained(request_iterator):
            draft = _draft((await read_header(request_iterator)).header, self._new_id())
            bind_contextvars(task=str(draft.task), epoch=draft.epoch)
            return _to_artifact(await self._upload.receive(draft, read_items(request_iterator)))

    async def GetArtifact(self, request: artifact_service_pb2.GetArtifactRequest, context: Context) -> artifact_pb2.Artifact:
        """One artifact."""
        return _to_artifact(await self._repository.get(_artifact_id(request.name)))

    async def ListArtifacts(
        self, request: artifact_service_pb2.ListArtifactsRequest, context: Context
    ) -> artifact_service_pb2.ListArtifactsResponse:
        """Artifacts, newest first."""
        size = page_size(request.page_size)
        task = resource_uuid(request.task, "tasks", "task") if request.task else None
        scope = f"artifacts task={task}"
        found = await self._repository.page(size + 1, decode_position(request.page_token, scope), task)
        token = ""
        if len(found) > size:
            token = encode_position(Position(found[size - 1].create_time, found[size - 1].id), scope)
        return artifact_service_pb2.ListArtifactsResponse(artifacts=map(_to_artifact, found[:size]), next_page_token=token)

    async def DownloadArtifact(
        self, request: artifact_service_pb2.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[artifact_service_pb2.DownloadArtifactResponse]:
        """The bytes of one file."""
        artifact = await self._repository.get(_artifact_id(request.name))
        file = find_file(artifact.files, request.path, artifact.name)
        offset = checked_offset(request.offset, file.size_bytes)
        async for chunk in self._store.read(file.object_key, offset, file.size_bytes):
            yield artifact_service_pb2.DownloadArtifactResponse(chunk=chunk)


def _artifact_id(name: str) -> uuid.UUID:
    identifier = resource_uuid(name, "artifacts")
    bind_contextvars(artifact=str(identifier))
    return identifier


def _draft(header: artifact_service_pb2.ArtifactHeader, identifier: uuid.UUID) -> ArtifactDraft:
    files = tuple(File(file.path, file.size_bytes, file.sha256) for file in header.manifest.files)
    refuse(_violations(header, files))
    return ArtifactDraft(
        id=identifier,
        kind=artifact_pb2.Artifact.Kind.Name(header.kind),
        task=resource_uuid(header.manifest.task, "tasks", "header.manifest.task"),
        epoch=header.epoch,
        request_id=header.request_id,
        manifest=header.manifest.SerializeToString(deterministic=True),
        files=files,
    )


def _violations(header: artifact_service_pb2.ArtifactHeader, files: tuple[File, ...]) -> list[Violation]:
    violations = [*text_violations(header.request_id, "header.request_id"), *file_violations(files, "header.manifest.files")]
    if header.kind not in (artifact_pb2.Artifact.ADAPTER, artifact_pb2.Artifact.MODEL):
        violations.append(Violation("header.kind", f"{header.kind} is not a kind this server stores; use ADAPTER or MODEL"))
    if header.epoch < 1:
        violations.append(Violation("header.epoch", f"{header.epoch} is not an epoch; the first is 1"))
    return violations


def _to_artifact(artifact: Artifact) -> artifact_pb2.Artifact:
    create_time, expire_time = timestamp_pb2.Timestamp(), timestamp_pb2.Timestamp()
    create_time.FromDatetime(artifact.create_time)
    expire_time.FromDatetime(artifact.expire_time)
    return artifact_pb2.Artifact(
        name=artifact.name,
        kind=artifact_pb2.Artifact.Kind.Value(artifact.kind),
        state=artifact_pb2.Artifact.AVAILABLE,
        manifest=artifact_pb2.ArtifactManifest.FromString(artifact.manifest),
        size_bytes=artifact.size_bytes,
        create_time=create_time,
        expire_time=expire_time,
    )
