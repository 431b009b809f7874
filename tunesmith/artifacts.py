"""Verbs on artifacts; part of `tunesmith.Client`."""

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from tunesmith.connection import UPLOAD_SECONDS, Connections
from tunesmith.names import enum_value, resource_name
from tunesmith.transfers import Progress, receive_all
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.artifact_service_pb2 import (
    ArtifactNotice,
    DownloadArtifactRequest,
    ExportArtifactRequest,
    ExtendArtifactRequest,
    GetArtifactRequest,
    GetStorageCheckRequest,
    ListArtifactNoticesRequest,
    ListArtifactsRequest,
    PinArtifactRequest,
    RestoreArtifactRequest,
    SignArtifactDownloadRequest,
    SignedDownload,
    StorageCheck,
    StreamArtifactExportRequest,
    SweepArtifactsRequest,
    SweepArtifactsResponse,
    UnpinArtifactRequest,
)
from tunesmith.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from tunesmith.v1.registered_model_pb2 import ModelVersion


class ArtifactVerbs(Connections):
    """What tasks produce."""

    def get_artifact(self, name: str) -> Artifact:
        """One artifact.

        Raises:
            NotFound: ARTIFACT_EXPIRED when it is past its time.
        """
        request = GetArtifactRequest(name=resource_name("artifacts", name))
        return self.connection("storage").call(self._artifacts.GetArtifact, request)

    def list_artifacts(
        self,
        task: str = "",
        page_size: int = 0,
        *,
        states: Iterable[str] = (),
        kind: str = "",
        expiring_before: datetime | None = None,
    ) -> Iterator[Artifact]:
        """Artifacts, newest first; of a task, in `states` (default: AVAILABLE), of a kind, ending before a time, as far as given.

        Raises:
            InvalidArgument: KIND_UNKNOWN.
        """
        request = ListArtifactsRequest(page_size=page_size, task=resource_name("tasks", task) if task else "")
        request.states.extend(Artifact.State.Value(state.upper()) for state in states)
        if kind:
            request.kind = enum_value(Artifact.Kind, kind, "KIND_UNKNOWN")
        if expiring_before:
            request.max_expire_time.FromDatetime(expiring_before)
        while True:
            page = self.connection("storage").call(self._artifacts.ListArtifacts, request)
            yield from page.artifacts
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def download_artifact(self, name: str, directory: str | Path, progress: Progress | None = None) -> list[Path]:
        """Fetch every file into `directory`; each appears under its name only when its checksum is right.

        What an interrupted download left is continued.

        Raises:
            DataLoss: CHECKSUM_MISMATCH.
            InvalidArgument: PATH_UNSAFE when the manifest names a place outside of the directory; nothing is written then.
        """
        artifact = self.get_artifact(name)
        files = artifact.manifest.files
        fetch, sign = partial(self._artifact_bytes, artifact.name), partial(self._signed_artifact, artifact.name)
        return receive_all(files, Path(directory), fetch, sign, progress)

    def pin_artifact(self, name: str, reason: str) -> Artifact:
        """Keep an artifact until it is unpinned."""
        request = PinArtifactRequest(name=resource_name("artifacts", name), reason=reason)
        return self.connection("storage").call(self._artifacts.PinArtifact, request)

    def unpin_artifact(self, name: str, reason: str = "") -> Artifact:
        """Let an artifact expire at its time."""
        request = UnpinArtifactRequest(name=resource_name("artifacts", name), reason=reason)
        return self.connection("storage").call(self._artifacts.UnpinArtifact, request)

    def extend_artifact(self, name: str, reason: str, *, by: timedelta | None = None, until: datetime | None = None) -> Artifact:
        """Keep an artifact longer: `by` so much, or `until` a moment with a time zone."""
        request = ExtendArtifactRequest(name=resource_name("artifacts", name), reason=reason)
        if by is not None:
            request.extension.FromTimedelta(by)
        elif until is not None:
            request.expire_time.FromDatetime(until)
        return self.connection("storage").call(self._artifacts.ExtendArtifact, request)

    def restore_artifact(self, name: str, reason: str = "") -> Artifact:
        """Bring back an expired artifact before its bytes are deleted."""
        request = RestoreArtifactRequest(name=resource_name("artifacts", name), reason=reason)
        return self.connection("storage").call(self._artifacts.RestoreArtifact, request)

    def export_artifact(
        self,
        name: str,
        model: str,
        *,
        format: str = "",
        alias: str = "",
        description: str = "",
        request_id: str = "",
        progress: Progress | None = None,
    ) -> ModelVersion:
        """Keep an artifact for good, as the next version of a registered model. A repeat of `request_id` makes nothing new.

        `format` is what the artifact has to be; empty = anything. `progress` is told of the bytes that have been verified.
        """
        request = ExportArtifactRequest(
            name=resource_name("artifacts", name),
            model=resource_name("models", model),
            alias=alias,
            description=description,
            request_id=request_id or str(uuid.uuid4()),
        )
        if format:
            request.format = enum_value(ModelVersion.Format, format, "FORMAT_UNKNOWN")
        version = ModelVersion()
        asked = StreamArtifactExportRequest(export=request)
        for step in self.connection("storage").stream(self._artifacts.StreamArtifactExport, asked, UPLOAD_SECONDS):
            if progress:
                progress(step.verified_bytes, step.total_bytes)
            version = step.model_version
        return version

    def list_artifact_notices(self, after: int = 0, task: str = "", page_size: int = 0) -> Iterator[ArtifactNotice]:
        """What was announced after the notice of that number, oldest first: ends that are near, and damage."""
        name = resource_name("tasks", task) if task else ""
        request = ListArtifactNoticesRequest(page_size=page_size, after_sequence=after, task=name)
        while True:
            page = self.connection("storage").call(self._artifacts.ListArtifactNotices, request)
            if not page.notices:
                return
            yield from page.notices
            request.after_sequence = page.last_sequence

    def get_storage_check(self) -> StorageCheck:
        """How far the scrubber is, and everything stored that is damaged."""
        return self.connection("storage").call(self._artifacts.GetStorageCheck, GetStorageCheckRequest())

    def sweep_artifacts(self, *, dry_run: bool = False) -> SweepArtifactsResponse:
        """Expire and delete what is due now, or tell what would be."""
        request = SweepArtifactsRequest(dry_run=dry_run)
        return self.connection("storage").call(self._artifacts.SweepArtifacts, request, UPLOAD_SECONDS)

    def _artifact_bytes(self, name: str, path: str, offset: int, caller_verifies: bool) -> Iterator[bytes]:
        request = DownloadArtifactRequest(name=name, path=path, offset=offset, caller_verifies=caller_verifies)
        for response in self.connection("storage").stream(self._artifacts.DownloadArtifact, request, UPLOAD_SECONDS):
            yield response.chunk

    def _signed_artifact(self, name: str, path: str) -> SignedDownload:
        request = SignArtifactDownloadRequest(name=name, path=path)
        return self.connection("storage").call(self._artifacts.SignArtifactDownload, request)

    @property
    def _artifacts(self) -> ArtifactServiceStub:
        return self.connection("storage").stub(ArtifactServiceStub)
