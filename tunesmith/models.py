"""Verbs on base models; part of `tunesmith.Client`."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.connection import UPLOAD_SECONDS, Connections
from tunesmith.names import enum_value, resource_name
from tunesmith.server_place import server_place
from tunesmith.transfers import Progress, chunks_of, describe, receive_all
from tunesmith.v1.artifact_service_pb2 import SignedDownload
from tunesmith.v1.base_model_pb2 import BaseModel
from tunesmith.v1.model_service_pb2 import (
    DownloadModelRequest,
    GetBaseModelRequest,
    ListBaseModelsRequest,
    RegisterBaseModelRequest,
    RegisterServerBaseModelRequest,
    SignModelDownloadRequest,
)
from tunesmith.v1.model_service_pb2_grpc import ModelServiceStub


class ModelVerbs(Connections):
    """Where tuning starts."""

    def get_base_model(self, name: str) -> BaseModel:
        """One base model."""
        request = GetBaseModelRequest(name=resource_name("baseModels", name))
        return self.connection("storage").call(self._models.GetBaseModel, request)

    def list_base_models(self, page_size: int = 0, *, order: str = "", **wanted: Any) -> Iterator[BaseModel]:
        """Base models by id, or in the `order` `parameters` (the smallest first), `newest` or `context` (the longest first).

        `wanted` are filters of ListBaseModelsRequest: `family`, `license`, `text`, `max_parameter_count`, `trains_conversations`.

        Raises:
            InvalidArgument: ORDER_UNKNOWN.
        """
        request = ListBaseModelsRequest(page_size=page_size, **wanted)
        if order:
            request.order = enum_value(ListBaseModelsRequest.Order, order, "ORDER_UNKNOWN")
        while True:
            page = self.connection("storage").call(self._models.ListBaseModels, request)
            yield from page.base_models
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def register_base_model(
        self, name: str, directory: str | Path, progress: Progress | None = None, **description: Any
    ) -> BaseModel:
        """Store every file below `directory` as a base model; `description` are the other fields of BaseModel.

        Raises:
            AlreadyExists: other files are registered under the name.
        """
        root = Path(directory)
        header = BaseModel(name=resource_name("baseModels", name), files=describe(root), **description)

        def messages() -> Iterator[RegisterBaseModelRequest]:
            yield RegisterBaseModelRequest(header=header)
            for file in header.files:
                yield RegisterBaseModelRequest(path=file.path)
                for chunk in chunks_of(root / file.path, progress):
                    yield RegisterBaseModelRequest(chunk=chunk)

        return self.connection("storage").call(self._models.RegisterBaseModel, messages(), UPLOAD_SECONDS)

    def register_server_base_model(self, name: str, *, directory: str = "", s3_prefix: str = "", **description: Any) -> BaseModel:
        """As `register_base_model`, of files that the server reads itself: in a directory or behind an S3 prefix, relative to the
        one that its operator allows. Family, parameters and context length are read from them unless `description` tells them.

        Raises:
            FailedPrecondition: SERVER_IMPORT_OFF. NotFound: IMPORT_SOURCE_NOT_FOUND. InvalidArgument: BASE_MODEL_UNSAFE.
        """
        header = BaseModel(name=resource_name("baseModels", name), **description)
        request = RegisterServerBaseModelRequest(header=header, source=server_place(directory, s3_prefix))
        return self.connection("storage").call(self._models.RegisterServerBaseModel, request, UPLOAD_SECONDS)

    def download_base_model(
        self, name: str, directory: str | Path, paths: Sequence[str] | None = None, progress: Progress | None = None
    ) -> list[Path]:
        """Fetch files of a base model into `directory`: those of `paths` that it has, default: all. Interrupted ones continue.

        Raises:
            DataLoss: CHECKSUM_MISMATCH. InvalidArgument: PATH_UNSAFE.
        """
        model = self.get_base_model(name)
        wanted = [file for file in model.files if paths is None or file.path in paths]
        fetch, sign = partial(self._model_bytes, model.name), partial(self._signed_model, model.name)
        return receive_all(wanted, Path(directory), fetch, sign, progress)

    def _model_bytes(self, name: str, path: str, offset: int, caller_verifies: bool) -> Iterator[bytes]:
        request = DownloadModelRequest(name=name, path=path, offset=offset, caller_verifies=caller_verifies)
        for response in self.connection("storage").stream(self._models.DownloadModel, request, UPLOAD_SECONDS):
            yield response.chunk

    def _signed_model(self, name: str, path: str) -> SignedDownload:
        request = SignModelDownloadRequest(name=name, path=path)
        return self.connection("storage").call(self._models.SignModelDownload, request)

    @property
    def _models(self) -> ModelServiceStub:
        return self.connection("storage").stub(ModelServiceStub)
