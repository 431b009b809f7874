"""ArtifactService over gRPC: requests to calls of the repository, the upload and the sweeper."""

# ruff: noqa: N802 - methods are named as in the protos

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from grpc.aio import ServicerContext
from structlog.contextvars import bind_contextvars

from services.common.names import resource_uuid
from services.common.paging import page_size
from services.storage.artifact_conversion import (
    completed,
    to_artifact,
    to_draft,
    to_extension,
    to_filter,
    to_sweep_response,
)
from services.storage.artifact_repository import ArtifactRepository
from services.storage.artifact_upload import ArtifactUpload
from services.storage.export import Export
from services.storage.file import find_file
from services.storage.notice_conversion import checked_sequence, optional_task, to_notices, to_storage_check
from services.storage.notice_repository import NoticeRepository
from services.storage.position import Position, decode_position, encode_position
from services.storage.registry_conversion import to_export_draft, to_export_step, to_model_version
from services.storage.request_fields import checked_offset, checked_text
from services.storage.retention_change import Change, Expire, Hold, Pin, Restore, Unpin
from services.storage.scrub import ScrubStatus
from services.storage.signed_download import SignedDownloads
from services.storage.sweeper import Sweeper
from services.storage.upload_stream import drained, read_header, read_items
from services.storage.verified_read import VerifiedRead
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc, registered_model_pb2

Context = ServicerContext[Any, Any]


class ArtifactServicer(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Keeps what tasks produce, for as long as it is meant to."""

    def __init__(
        self,
        *,
        repository: ArtifactRepository,
        files: VerifiedRead,
        signed: SignedDownloads,
        notices: NoticeRepository,
        scrub_status: Callable[[], Awaitable[ScrubStatus]],
        upload: ArtifactUpload,
        export: Export,
        sweeper: Sweeper,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        self._repository = repository
        self._files = files
        self._signed = signed
        self._notices = notices
        self._scrub_status = scrub_status
        self._upload = upload
        self._export = export
        self._sweeper = sweeper
        self._new_id = new_id

    async def UploadArtifact(
        self, request_iterator: AsyncIterator[artifact_service_pb2.UploadArtifactRequest], context: Context
    ) -> artifact_pb2.Artifact:
        """Stores an artifact under the epoch of its attempt."""
        async with drained(request_iterator) as requests:
            draft = to_draft((await read_header(requests)).header, self._new_id())
            bind_contextvars(task=str(draft.task), epoch=draft.epoch)
            return to_artifact(await self._upload.receive(draft, read_items(requests), completed))

    async def GetArtifact(self, request: artifact_service_pb2.GetArtifactRequest, context: Context) -> artifact_pb2.Artifact:
        """One artifact."""
        return to_artifact(await self._repository.get(_artifact_id(request.name)))

    async def ListArtifacts(
        self, request: artifact_service_pb2.ListArtifactsRequest, context: Context
    ) -> artifact_service_pb2.ListArtifactsResponse:
        """Artifacts, newest first."""
        size = page_size(request.page_size)
        wanted = to_filter(request)
        scope = f"artifacts {wanted}"
        found = await self._repository.page(size + 1, decode_position(request.page_token, scope), wanted)
        token = ""
        if len(found) > size:
            token = encode_position(Position(found[size - 1].create_time, found[size - 1].id), scope)
        return artifact_service_pb2.ListArtifactsResponse(artifacts=map(to_artifact, found[:size]), next_page_token=token)

    async def DownloadArtifact(
        self, request: artifact_service_pb2.DownloadArtifactRequest, context: Context
    ) -> AsyncIterator[artifact_service_pb2.DownloadArtifactResponse]:
        """The bytes of one file; what is read is in use."""
        artifact = await self._repository.change(_artifact_id(request.name), Hold())
        file = find_file(artifact.files, request.path, artifact.name)
        offset = checked_offset(request.offset, file.size_bytes)
        async for chunk in self._files.read(file, artifact.name, offset, context, caller_verifies=request.caller_verifies):
            yield artifact_service_pb2.DownloadArtifactResponse(chunk=chunk)

    async def SignArtifactDownload(
        self, request: artifact_service_pb2.SignArtifactDownloadRequest, context: Context
    ) -> artifact_service_pb2.SignedDownload:
        """Where one file can be read; what is read is in use."""
        artifact = await self._repository.change(_artifact_id(request.name), Hold())
        return self._signed.sign(find_file(artifact.files, request.path, artifact.name), artifact.name)

    async def HoldArtifact(self, request: artifact_service_pb2.HoldArtifactRequest, context: Context) -> artifact_pb2.Artifact:
        """Keeps what is in use."""
        return await self._changed(request.name, Hold())

    async def PinArtifact(self, request: artifact_service_pb2.PinArtifactRequest, context: Context) -> artifact_pb2.Artifact:
        """Keeps until unpinned."""
        return await self._changed(request.name, Pin(checked_text(request.reason, "reason")))

    async def UnpinArtifact(self, request: artifact_service_pb2.UnpinArtifactRequest, context: Context) -> artifact_pb2.Artifact:
        """Lets expire."""
        return await self._changed(request.name, Unpin(checked_text(request.reason, "reason", required=False)))

    async def ExtendArtifact(
        self, request: artifact_service_pb2.ExtendArtifactRequest, context: Context
    ) -> artifact_pb2.Artifact:
        """Keeps longer."""
        return await self._changed(request.name, to_extension(request))

    async def ExpireArtifact(
        self, request: artifact_service_pb2.ExpireArtifactRequest, context: Context
    ) -> artifact_pb2.Artifact:
        """Ends now."""
        return await self._changed(request.name, Expire(checked_text(request.reason, "reason", required=False)))

    async def RestoreArtifact(
        self, request: artifact_service_pb2.RestoreArtifactRequest, context: Context
    ) -> artifact_pb2.Artifact:
        """Brings back."""
        return await self._changed(request.name, Restore(checked_text(request.reason, "reason", required=False)))

    async def ExportArtifact(
        self, request: artifact_service_pb2.ExportArtifactRequest, context: Context
    ) -> registered_model_pb2.ModelVersion:
        """Keeps for good."""
        draft = to_export_draft(request)
        bind_contextvars(artifact=str(draft.artifact), model=draft.model)
        return to_model_version(await self._export.export(draft))

    async def StreamArtifactExport(
        self, request: artifact_service_pb2.StreamArtifactExportRequest, context: Context
    ) -> AsyncIterator[artifact_service_pb2.StreamArtifactExportResponse]:
        """Keeps for good, and tells how far it is."""
        draft = to_export_draft(request.export)
        bind_contextvars(artifact=str(draft.artifact), model=draft.model)
        async with contextlib.aclosing(self._export.steps(draft)) as steps:
            async for step in steps:
                yield to_export_step(step)

    async def SweepArtifacts(
        self, request: artifact_service_pb2.SweepArtifactsRequest, context: Context
    ) -> artifact_service_pb2.SweepArtifactsResponse:
        """Ends what is due."""
        sweep, dry_run = await self._sweeper.sweep(dry_run=request.dry_run)
        return to_sweep_response(sweep, dry_run=dry_run)

    async def ListArtifactNotices(
        self, request: artifact_service_pb2.ListArtifactNoticesRequest, context: Context
    ) -> artifact_service_pb2.ListArtifactNoticesResponse:
        """What was announced, after a number."""
        after, task = checked_sequence(request.after_sequence), optional_task(request.task)
        return to_notices(await self._notices.page(page_size(request.page_size), after, task), after)

    async def GetStorageCheck(
        self, request: artifact_service_pb2.GetStorageCheckRequest, context: Context
    ) -> artifact_service_pb2.StorageCheck:
        """How far the scrubber is."""
        return to_storage_check(await self._scrub_status())

    async def _changed(self, name: str, change: Change) -> artifact_pb2.Artifact:
        return to_artifact(await self._repository.change(_artifact_id(name), change))


def _artifact_id(name: str) -> uuid.UUID:
    identifier = resource_uuid(name, "artifacts")
    bind_contextvars(artifact=str(identifier))
    return identifier
