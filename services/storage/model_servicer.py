"""ModelService over gRPC: protos to domain values and back."""

# ruff: noqa: N802 - methods are named as in the protos

from collections.abc import AsyncIterator
from typing import Any

import structlog
from google.protobuf import empty_pb2, timestamp_pb2
from grpc.aio import ServicerContext
from structlog.contextvars import bind_contextvars

from services.common.errors import Violation
from services.common.names import alias_name, base_model_id, registered_model_id, registered_name
from services.common.paging import decode_number, decode_token, encode_token, page_size
from services.storage.base_model import BaseModel, BaseModelDraft, missing_files
from services.storage.base_model_repository import BaseModelRepository
from services.storage.base_model_upload import BaseModelUpload
from services.storage.file import File, file_violations, find_file
from services.storage.model_import import ModelImport
from services.storage.registered_model import ModelVersion
from services.storage.registry_conversion import to_file, to_import_draft, to_model_version, to_registered_model
from services.storage.registry_repository import RegistryRepository
from services.storage.request_fields import checked_offset, refuse, text_violations
from services.storage.upload_stream import drained, read_header, read_items
from services.storage.verified_read import VerifiedRead
from tunesmith.v1 import base_model_pb2, model_service_pb2, model_service_pb2_grpc, registered_model_pb2

log = structlog.get_logger()

Context = ServicerContext[Any, Any]


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Keeps base models, and what was exported."""

    def __init__(
        self,
        *,
        repository: BaseModelRepository,
        registry: RegistryRepository,
        files: VerifiedRead,
        upload: BaseModelUpload,
        importing: ModelImport,
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._files = files
        self._upload = upload
        self._import = importing

    async def RegisterBaseModel(
        self, request_iterator: AsyncIterator[model_service_pb2.RegisterBaseModelRequest], context: Context
    ) -> base_model_pb2.BaseModel:
        """Stores a base model whose files hold data only."""
        async with drained(request_iterator):
            draft = _draft((await read_header(request_iterator)).header)
            bind_contextvars(base_model=draft.id)
            return _to_base_model(await self._upload.receive(draft, read_items(request_iterator)))

    async def GetBaseModel(self, request: model_service_pb2.GetBaseModelRequest, context: Context) -> base_model_pb2.BaseModel:
        """One base model."""
        return _to_base_model(await self._repository.get(base_model_id(request.name)))

    async def ListBaseModels(
        self, request: model_service_pb2.ListBaseModelsRequest, context: Context
    ) -> model_service_pb2.ListBaseModelsResponse:
        """Base models by id."""
        size = page_size(request.page_size)
        position = decode_token(request.page_token, "baseModels")
        found = await self._repository.page(size + 1, position[0] if position else None)
        token = encode_token((found[size - 1].id,), "baseModels") if len(found) > size else ""
        return model_service_pb2.ListBaseModelsResponse(base_models=map(_to_base_model, found[:size]), next_page_token=token)

    async def DownloadModel(
        self, request: model_service_pb2.DownloadModelRequest, context: Context
    ) -> AsyncIterator[model_service_pb2.DownloadModelResponse]:
        """The bytes of one file."""
        model = await self._model(request.name)
        bind_contextvars(model=model.name)
        file = find_file(model.files, request.path, model.name)
        offset = checked_offset(request.offset, file.size_bytes)
        async for chunk in self._files.read(file, model.name, offset, context):
            yield model_service_pb2.DownloadModelResponse(chunk=chunk)

    async def GetModel(
        self, request: model_service_pb2.GetModelRequest, context: Context
    ) -> registered_model_pb2.RegisteredModel:
        """One registered model."""
        return to_registered_model(await self._registry.model(registered_model_id(request.name)))

    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        """Registered models by id."""
        size = page_size(request.page_size)
        position = decode_token(request.page_token, "models")
        found = await self._registry.models(size + 1, position[0] if position else None)
        token = encode_token((found[size - 1].id,), "models") if len(found) > size else ""
        return model_service_pb2.ListModelsResponse(models=map(to_registered_model, found[:size]), next_page_token=token)

    async def GetModelVersion(
        self, request: model_service_pb2.GetModelVersionRequest, context: Context
    ) -> registered_model_pb2.ModelVersion:
        """One version."""
        return to_model_version(await self._registry.version(registered_name(request.name)))

    async def ListModelVersions(
        self, request: model_service_pb2.ListModelVersionsRequest, context: Context
    ) -> model_service_pb2.ListModelVersionsResponse:
        """Versions, newest first."""
        size, model = page_size(request.page_size), registered_model_id(request.parent, "parent")
        before = decode_number(request.page_token, f"versions of {model}")
        found = await self._registry.versions(model, size + 1, before)
        token = encode_token((str(found[size - 1].version),), f"versions of {model}") if len(found) > size else ""
        versions = map(to_model_version, found[:size])
        return model_service_pb2.ListModelVersionsResponse(model_versions=versions, next_page_token=token)

    async def ImportModel(
        self, request_iterator: AsyncIterator[model_service_pb2.ImportModelRequest], context: Context
    ) -> registered_model_pb2.ModelVersion:
        """Keeps what was made elsewhere."""
        async with drained(request_iterator):
            draft = to_import_draft((await read_header(request_iterator)).header)
            bind_contextvars(model=draft.model)
            return to_model_version(await self._import.receive(draft, read_items(request_iterator)))

    async def SetModelAlias(
        self, request: model_service_pb2.SetModelAliasRequest, context: Context
    ) -> registered_model_pb2.RegisteredModel:
        """Moves or removes an alias."""
        model, alias = registered_model_id(request.name), alias_name(request.alias, "alias")
        if request.version < 0:
            refuse([Violation("version", f"{request.version} is negative; use 0 to remove the alias")])
        return to_registered_model(await self._registry.set_alias(model, alias, request.version))

    async def DeleteModelVersion(self, request: model_service_pb2.DeleteModelVersionRequest, context: Context) -> empty_pb2.Empty:
        """Deletes exactly the version that is named."""
        name = registered_name(request.name)
        if name.version is None:
            refuse([Violation("name", f"{request.name!r} names no version by its number")])
        version = await self._registry.delete(name)
        log.info("model_version.deleted", model_version=version.name)
        return empty_pb2.Empty()

    async def _model(self, name: str) -> BaseModel | ModelVersion:
        if name.startswith("models/"):
            return await self._registry.version(registered_name(name))
        return await self._repository.get(base_model_id(name))


def _draft(header: base_model_pb2.BaseModel) -> BaseModelDraft:
    files = tuple(File(file.path, file.size_bytes, file.sha256) for file in header.files)
    refuse(_violations(header, files))
    return BaseModelDraft(
        id=base_model_id(header.name, "header.name"),
        display_name=header.display_name,
        family=header.family,
        parameter_count=header.parameter_count,
        context_length=header.context_length,
        license=header.license,
        files=files,
    )


def _violations(header: base_model_pb2.BaseModel, files: tuple[File, ...]) -> list[Violation]:
    violations = [
        *text_violations(header.display_name, "header.display_name"),
        *text_violations(header.family, "header.family", required=False),
        *text_violations(header.license, "header.license", required=False),
        *file_violations(files, "header.files"),
    ]
    for field in ("parameter_count", "context_length"):
        if (value := getattr(header, field)) < 0:
            violations.append(Violation(f"header.{field}", f"{value} is negative"))
    if files:
        violations += missing_files(files, "header.files")
    return violations


def _to_base_model(model: BaseModel) -> base_model_pb2.BaseModel:
    create_time = timestamp_pb2.Timestamp()
    create_time.FromDatetime(model.create_time)
    return base_model_pb2.BaseModel(
        name=model.name,
        display_name=model.display_name,
        family=model.family,
        parameter_count=model.parameter_count,
        context_length=model.context_length,
        license=model.license,
        files=map(to_file, model.files),
        size_bytes=model.size_bytes,
        revision=model.revision,
        create_time=create_time,
        chat_template_problem=model.chat_template_problem,
    )
