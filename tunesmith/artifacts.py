"""Verbs on artifacts; part of `tunesmith.Client`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tunesmith.connection import UPLOAD_SECONDS, Connections
from tunesmith.names import resource_name
from tunesmith.transfers import Progress, receive, safe_target, summed
from tunesmith.v1.artifact_pb2 import Artifact
from tunesmith.v1.artifact_service_pb2 import DownloadArtifactRequest, GetArtifactRequest, ListArtifactsRequest
from tunesmith.v1.artifact_service_pb2_grpc import ArtifactServiceStub


class ArtifactVerbs(Connections):
    """What tasks produce."""

    def get_artifact(self, name: str) -> Artifact:
        """One artifact.

        Raises:
            NotFound: ARTIFACT_EXPIRED when it is past its time.
        """
        request = GetArtifactRequest(name=resource_name("artifacts", name))
        return self.connection("storage").call(self._artifacts.GetArtifact, request)

    def list_artifacts(self, task: str = "", page_size: int = 0) -> Iterator[Artifact]:
        """Artifacts, newest first; of one task when given."""
        request = ListArtifactsRequest(page_size=page_size, task=resource_name("tasks", task) if task else "")
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
        root = Path(directory)
        targets = [(file, safe_target(root, file.path)) for file in artifact.manifest.files]
        advance = summed(progress, sum(file.size_bytes for file, _ in targets))
        for file, target in targets:
            fetch = partial(self._artifact_bytes, artifact.name, file.path)
            receive(fetch, target, key=file.sha256, sha256=file.sha256, progress=advance)
        return [target for _, target in targets]

    def _artifact_bytes(self, name: str, path: str, offset: int) -> Iterator[bytes]:
        request = DownloadArtifactRequest(name=name, path=path, offset=offset)
        for response in self.connection("storage").stream(self._artifacts.DownloadArtifact, request, UPLOAD_SECONDS):
            yield response.chunk

    @property
    def _artifacts(self) -> ArtifactServiceStub:
        return self.connection("storage").stub(ArtifactServiceStub)
