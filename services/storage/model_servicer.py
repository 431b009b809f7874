"""ModelService over gRPC: protos to domain values and back."""

# ruff: noqa: N802 - methods are named as in the protos

from collections.abc import AsyncIterator
from dataclasses import astuple
from typing import Any

from google.protobuf import empty_pb2
from grpc.aio import ServicerContext
from structlog.contextvars import bind_contextvars

from services.common.errors import InvalidArgument, Violation
from services.common.names import alias_name, base_model_id, registered_model_id, registered_name
from services.common.paging import decode_number, decode_numbered, decode_token, encode_numbered, encode_token, page_size
from services.storage.base_model import BaseModel
from services.storage.base_model_conversion import to_base_model, to_base_model_draft, to_base_model_filter, to_server_draft
from services.storage.base_model_listing import Place
from services.storage.base_model_repository import BaseModelRepository
from services.storage.base_model_upload import BaseModelUpload
from services.storage.file import find_file
from services.storage.model_import import ModelImport
from services.storage.registered_model import ModelVersion
from services.storage.registry_conversion import to_import_draft, to_model_version, to_registered_model, to_server_import_draft
from services.storage.registry_repository import RegistryRepository
from services.storage.request_fields import checked_offset, refuse
from services.storage.server_import import ServerImport, Source
from services.storage.server_place import checked_name
from services.storage.signed_download import SignedDownloads
from services.storage.upload_stream import drained, read_header, read_items
from services.storage.verified_read import VerifiedRead
from services.storage.version_deletion import VersionDeletion
from tunesmith.v1 import artifact_service_pb2, base_model_pb2, model_service_pb2, model_service_pb2_grpc, registered_model_pb2

Context = ServicerContext[Any, Any]


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Keeps base models, and what was exported."""

    def __init__(
        self,
        *,
        repository: BaseModelRepository,
        registry: RegistryRepository,
        files: VerifiedRead,
        signed: SignedDownloads,
        upload: BaseModelUpload,
        importing: ModelImport,
        from_server: ServerImport,
        deletion: VersionDeletion,
    ) -> None:
        self._repository = repository
        self._registry = registry
        self._files = files
        self._signed = signed
        self._upload = upload
        self._import = importing
        self._from_server = from_server
        self._deletion = deletion

    async def RegisterBaseModel(
        self, request_iterator: AsyncIterator[model_service_pb2.RegisterBaseModelRequest], context: Context
    ) -> base_model_pb2.BaseModel:
        """Stores a base model whose files hold data only."""
        async with drained(request_iterator) as requests:
            draft = to_base_model_draft((await read_header(requests)).header)
            bind_contextvars(base_model=draft.id)
            return to_base_model(await self._upload.receive(draft, read_items(requests)))

    async def GetBaseModel(self, request: model_service_pb2.GetBaseModelRequest, context: Context) -> base_model_pb2.BaseModel:
        """One base model."""
        return to_base_model(await self._repository.get(base_model_id(request.name)))

    async def ListBaseModels(
        self, request: model_service_pb2.ListBaseModelsRequest, context: Context
    ) -> model_service_pb2.ListBaseModelsResponse:
        """Base models that the request asks for."""
        size, wanted = page_size(request.page_size), to_base_model_filter(request)
        position = decode_numbered(request.page_token, scope := f"baseModels {wanted}")
        found = await self._repository.page(size + 1, position and Place(*position), wanted)
        token = encode_numbered(astuple(wanted.place(found[size - 1])), scope) if len(found) > size else ""
        return model_service_pb2.ListBaseModelsResponse(base_models=map(to_base_model, found[:size]), next_page_token=token)

    async def DownloadModel(
        self, request: model_service_pb2.DownloadModelRequest, context: Context
    ) -> AsyncIterator[model_service_pb2.DownloadModelResponse]:
        """The bytes of one file."""
        model = await self._model(request.name)
        bind_contextvars(model=model.name)
        file = find_file(model.files, request.path, model.name)
        offset = checked_offset(request.offset, file.size_bytes)
        async for chunk in self._files.read(file, model.name, offset, context, caller_verifies=request.caller_verifies):
            yield model_service_pb2.DownloadModelResponse(chunk=chunk)

    async def SignModelDownload(
        self, request: model_service_pb2.SignModelDownloadRequest, context: Context
    ) -> artifact_service_pb2.SignedDownload:
        """Where one file can be read."""
        model = await self._model(request.name)
        bind_contextvars(model=model.name)
        return self._signed.sign(find_file(model.files, request.path, model.name), model.name)

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
        async with drained(request_iterator) as requests:
            draft = to_import_draft((await read_header(requests)).header)
            bind_contextvars(model=draft.model)
            return to_model_version(await self._import.receive(draft, read_items(requests)))

    async def ImportServerModel(
        self, request: model_service_pb2.ImportServerModelRequest, context: Context
    ) -> registered_model_pb2.ModelVersion:
        """Keeps what lies in a place of the server."""
        draft, source = to_server_import_draft(request.header), _source(request.source)
        bind_contextvars(model=draft.model, source=source.name)
        return to_model_version(await self._from_server.import_model(draft, source))

    async def RegisterServerBaseModel(
        self, request: model_service_pb2.RegisterServerBaseModelRequest, context: Context
    ) -> base_model_pb2.BaseModel:
        """Stores a base model that lies in a place of the server."""
        draft, source = to_server_draft(request.header), _source(request.source)
        bind_contextvars(base_model=draft.id, source=source.name)
        return to_base_model(await self._from_server.register(draft, source))

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
        await self._deletion.delete(name)
        return empty_pb2.Empty()

    async def HoldModelVersion(
        self, request: model_service_pb2.HoldModelVersionRequest, context: Context
    ) -> registered_model_pb2.ModelVersion:
        """Keeps what a task is about to start from."""
        return to_model_version(await self._registry.hold(registered_name(request.name)))

    async def _model(self, name: str) -> BaseModel | ModelVersion:
        if name.startswith("models/"):
            return await self._registry.version(registered_name(name))
        return await self._repository.get(base_model_id(name))


def _source(place: model_service_pb2.ServerPlace) -> Source:
    kind = place.WhichOneof("place")
    if kind is None:
        raise InvalidArgument(Violation("source", "is required: a directory or an s3_prefix"))
    return Source(kind, checked_name(getattr(place, kind), f"source.{kind}"))
