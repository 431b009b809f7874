"""Verbs on registered models, where exported artifacts are kept for good; part of `tunesmith.Client`."""

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tunesmith.connection import UPLOAD_SECONDS, Connections
from tunesmith.names import resource_name
from tunesmith.server_place import server_place
from tunesmith.transfers import Progress, chunks_of, describe, receive_all
from tunesmith.v1.artifact_service_pb2 import SignedDownload
from tunesmith.v1.model_service_pb2 import (
    DeleteModelVersionRequest,
    DownloadModelRequest,
    GetModelRequest,
    GetModelVersionRequest,
    ImportModelHeader,
    ImportModelRequest,
    ImportServerModelRequest,
    ListModelsRequest,
    ListModelVersionsRequest,
    SetModelAliasRequest,
    SignModelDownloadRequest,
)
from tunesmith.v1.model_service_pb2_grpc import ModelServiceStub
from tunesmith.v1.registered_model_pb2 import ModelVersion, RegisteredModel

_CARD = "README.md"


class RegistryVerbs(Connections):
    """Models, their versions and aliases. A version is named `MODEL`, `MODEL@ALIAS` or `MODEL@NUMBER`."""

    def get_model(self, name: str) -> RegisteredModel:
        """One registered model."""
        request = GetModelRequest(name=resource_name("models", name))
        return self.connection("storage").call(self._registry.GetModel, request)

    def list_models(self, page_size: int = 0) -> Iterator[RegisteredModel]:
        """Registered models by id."""
        request = ListModelsRequest(page_size=page_size)
        while True:
            page = self.connection("storage").call(self._registry.ListModels, request)
            yield from page.models
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_model_version(self, name: str) -> ModelVersion:
        """One version; the newest when none is named."""
        request = GetModelVersionRequest(name=resource_name("models", name))
        return self.connection("storage").call(self._registry.GetModelVersion, request)

    def get_model_card(self, name: str) -> str:
        """The README.md of a version, which every export writes.

        Raises:
            NotFound: FILE_NOT_FOUND of an imported version that came without one.
        """
        request = DownloadModelRequest(name=self.get_model_version(name).name, path=_CARD)
        pieces = self.connection("storage").stream(self._registry.DownloadModel, request, UPLOAD_SECONDS)
        return b"".join(piece.chunk for piece in pieces).decode(errors="replace")

    def list_model_versions(self, model: str, page_size: int = 0) -> Iterator[ModelVersion]:
        """Versions of a model, newest first."""
        request = ListModelVersionsRequest(parent=resource_name("models", model), page_size=page_size)
        while True:
            page = self.connection("storage").call(self._registry.ListModelVersions, request)
            yield from page.model_versions
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def import_model(
        self,
        name: str,
        directory: str | Path,
        *,
        base_model: str = "",
        alias: str = "",
        description: str = "",
        request_id: str = "",
        progress: Progress | None = None,
    ) -> ModelVersion:
        """Keep an adapter (of `base_model`) or a whole model below `directory` as the next version. A repeat of `request_id`
        makes nothing new.

        Raises:
            InvalidArgument: BASE_MODEL_UNSAFE for files that could run code, MODEL_UNFIT, LINK_REFUSED.
        """
        root = Path(directory)
        header = ImportModelHeader(
            model=resource_name("models", name),
            files=describe(root),
            base_model=resource_name("baseModels", base_model) if base_model else "",
            alias=alias,
            description=description,
            request_id=request_id or str(uuid.uuid4()),
        )

        def messages() -> Iterator[ImportModelRequest]:
            yield ImportModelRequest(header=header)
            for file in header.files:
                yield ImportModelRequest(path=file.path)
                for chunk in chunks_of(root / file.path, progress):
                    yield ImportModelRequest(chunk=chunk)

        return self.connection("storage").call(self._registry.ImportModel, messages(), UPLOAD_SECONDS)

    def import_server_model(
        self,
        name: str,
        *,
        directory: str = "",
        s3_prefix: str = "",
        base_model: str = "",
        alias: str = "",
        description: str = "",
        request_id: str = "",
    ) -> ModelVersion:
        """As `import_model`, of files that the server reads itself: in a directory or behind an S3 prefix, relative to the one
        that its operator allows. Nothing is sent.

        Raises:
            FailedPrecondition: SERVER_IMPORT_OFF. NotFound: IMPORT_SOURCE_NOT_FOUND. InvalidArgument: as `import_model`.
        """
        header = ImportModelHeader(
            model=resource_name("models", name),
            base_model=resource_name("baseModels", base_model) if base_model else "",
            alias=alias,
            description=description,
            request_id=request_id or str(uuid.uuid4()),
        )
        request = ImportServerModelRequest(header=header, source=server_place(directory, s3_prefix))
        return self.connection("storage").call(self._registry.ImportServerModel, request, UPLOAD_SECONDS)

    def set_model_alias(self, model: str, alias: str, version: int) -> RegisteredModel:
        """Point an alias to a version; 0 removes it."""
        request = SetModelAliasRequest(name=resource_name("models", model), alias=alias, version=version)
        return self.connection("storage").call(self._registry.SetModelAlias, request)

    def delete_model_version(self, name: str) -> None:
        """Delete a version, named by its number, that no alias points to."""
        request = DeleteModelVersionRequest(name=resource_name("models", name))
        self.connection("storage").call(self._registry.DeleteModelVersion, request)

    def download_model(self, name: str, directory: str | Path, progress: Progress | None = None) -> list[Path]:
        """Fetch every file of a version into `directory`; raises as `download_artifact` does."""
        version = self.get_model_version(name)
        files = version.manifest.files
        fetch, sign = partial(self._version_bytes, version.name), partial(self._signed_version, version.name)
        return receive_all(files, Path(directory), fetch, sign, progress)

    def _version_bytes(self, name: str, path: str, offset: int, caller_verifies: bool) -> Iterator[bytes]:
        request = DownloadModelRequest(name=name, path=path, offset=offset, caller_verifies=caller_verifies)
        for response in self.connection("storage").stream(self._registry.DownloadModel, request, UPLOAD_SECONDS):
            yield response.chunk

    def _signed_version(self, name: str, path: str) -> SignedDownload:
        request = SignModelDownloadRequest(name=name, path=path)
        return self.connection("storage").call(self._registry.SignModelDownload, request)

    @property
    def _registry(self) -> ModelServiceStub:
        return self.connection("storage").stub(ModelServiceStub)
