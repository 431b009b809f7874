"""The storage service in this process behind a real gRPC server, and short ways to call it."""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import math
import pathlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

import grpc
import pytest
from blake3 import blake3
from google.protobuf import duration_pb2
from unit.storage.fake_processes import FakeCheckers, FakeTasks, FakeTokens

from services.common.interceptors import EdgeInterceptor
from services.common.rich_status import from_rpc_error, reason_of
from services.storage.base_model_files import BaseModelFiles
from services.storage.object_store import ObjectStore
from services.storage.registration import SLOW_METHODS, Repositories, Surroundings, register
from services.storage.server_place import ServerPlace
from services.storage.sweeper import Sweeper
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    base_model_pb2,
    dataset_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    event_archive_service_pb2,
    event_archive_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    registered_model_pb2,
)


@dataclasses.dataclass
class Service:
    """Stubs of a running service; `keys` lists the objects in its store, the rest is what a test has a hand in."""

    channel: grpc.aio.Channel
    keys: Callable[[], Awaitable[set[str]]]
    checkers: FakeCheckers = dataclasses.field(default_factory=FakeCheckers)
    tokens: FakeTokens = dataclasses.field(default_factory=FakeTokens)
    tasks: FakeTasks = dataclasses.field(default_factory=FakeTasks)
    store: ObjectStore | None = None
    repositories: Repositories | None = None
    address: str = ""
    """`host:port`, for callers with a channel of their own."""

    def __post_init__(self) -> None:
        self.datasets = dataset_service_pb2_grpc.DatasetServiceStub(self.channel)
        self.artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.events = event_archive_service_pb2_grpc.EventArchiveServiceStub(self.channel)

    async def upload(self, content: bytes, *, chunk_bytes: int = 2**20, **header: object) -> dataset_pb2.Dataset:
        header = {"display_name": "rows"} | header
        return await self.datasets.UploadDataset(dataset_messages(content, chunk_bytes=chunk_bytes, **header))

    async def check(self, content: bytes) -> dataset_pb2.DatasetReport:
        return await self.datasets.ValidateDataset([dataset_service_pb2.ValidateDatasetRequest(chunk=content)])

    async def download(self, name: str, offset: int = 0, content: int = 0) -> bytes:
        request = dataset_service_pb2.DownloadDatasetRequest(name=name, offset=offset, content=content)
        return await joined(self.datasets.DownloadDataset(request))

    async def delete(self, name: str) -> None:
        await self.datasets.DeleteDataset(dataset_service_pb2.DeleteDatasetRequest(name=name))

    async def store_artifact(self, files: Mapping[str, bytes], /, **header: object) -> artifact_pb2.Artifact:
        return await self.artifacts.UploadArtifact(artifact_messages(files, **header))

    async def download_artifact(self, name: str, path: str, offset: int = 0) -> bytes:
        request = artifact_service_pb2.DownloadArtifactRequest(name=name, path=path, offset=offset)
        return await joined(self.artifacts.DownloadArtifact(request))

    async def list_artifacts(self, **filters: object) -> list[artifact_pb2.Artifact]:
        return list((await self.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest(**filters))).artifacts)

    async def pin(self, name: str, reason: str = "needed") -> artifact_pb2.Artifact:
        return await self.artifacts.PinArtifact(artifact_service_pb2.PinArtifactRequest(name=name, reason=reason))

    async def unpin(self, name: str, reason: str = "") -> artifact_pb2.Artifact:
        return await self.artifacts.UnpinArtifact(artifact_service_pb2.UnpinArtifactRequest(name=name, reason=reason))

    async def extend(self, name: str, days: float = 0, reason: str = "needed", **until: object) -> artifact_pb2.Artifact:
        fields = {"extension": duration_pb2.Duration(seconds=int(days * 86400))} if days else until
        return await self.artifacts.ExtendArtifact(artifact_service_pb2.ExtendArtifactRequest(name=name, reason=reason, **fields))

    async def expire(self, name: str, reason: str = "") -> artifact_pb2.Artifact:
        return await self.artifacts.ExpireArtifact(artifact_service_pb2.ExpireArtifactRequest(name=name, reason=reason))

    async def restore(self, name: str, reason: str = "") -> artifact_pb2.Artifact:
        return await self.artifacts.RestoreArtifact(artifact_service_pb2.RestoreArtifactRequest(name=name, reason=reason))

    async def hold(self, name: str) -> artifact_pb2.Artifact:
        return await self.artifacts.HoldArtifact(artifact_service_pb2.HoldArtifactRequest(name=name))

    async def export(self, name: str, model: str = "models/mine", **fields: object) -> registered_model_pb2.ModelVersion:
        return await self.artifacts.ExportArtifact(artifact_service_pb2.ExportArtifactRequest(name=name, model=model, **fields))

    async def version(self, name: str) -> registered_model_pb2.ModelVersion:
        return await self.models.GetModelVersion(model_service_pb2.GetModelVersionRequest(name=name))

    async def set_alias(self, name: str, alias: str, version: int) -> registered_model_pb2.RegisteredModel:
        return await self.models.SetModelAlias(model_service_pb2.SetModelAliasRequest(name=name, alias=alias, version=version))

    async def hold_version(self, name: str) -> registered_model_pb2.ModelVersion:
        return await self.models.HoldModelVersion(model_service_pb2.HoldModelVersionRequest(name=name))

    async def delete_version(self, name: str) -> None:
        await self.models.DeleteModelVersion(model_service_pb2.DeleteModelVersionRequest(name=name))

    async def put_segment(self, task: str, content: bytes) -> None:
        message = event_archive_service_pb2.PutEventSegmentRequest
        await self.events.PutEventSegment(message(task=task, sha256=sha256(content), content=content))

    async def segment(self, task: str, content: bytes) -> bytes:
        message = event_archive_service_pb2.GetEventSegmentRequest
        return (await self.events.GetEventSegment(message(task=task, sha256=sha256(content)))).content

    async def sweep(self, *, dry_run: bool = False) -> artifact_service_pb2.SweepArtifactsResponse:
        return await self.artifacts.SweepArtifacts(artifact_service_pb2.SweepArtifactsRequest(dry_run=dry_run))

    async def register_model(self, files: Mapping[str, bytes], /, **header: object) -> base_model_pb2.BaseModel:
        return await self.models.RegisterBaseModel(model_messages(files, **header))

    async def import_model(self, files: Mapping[str, bytes], /, **header: object) -> registered_model_pb2.ModelVersion:
        return await self.models.ImportModel(import_messages(files, **header))

    async def download_model(self, name: str, path: str, offset: int = 0) -> bytes:
        request = model_service_pb2.DownloadModelRequest(name=name, path=path, offset=offset)
        return await joined(self.models.DownloadModel(request))


@contextlib.asynccontextmanager
async def running_service(
    repositories: Repositories,
    store: ObjectStore,
    keys: Callable[[], Awaitable[set[str]]],
    upload_lifetime: datetime.timedelta = datetime.timedelta(hours=24),
    server_places: Mapping[str, ServerPlace] | None = None,
) -> AsyncIterator[Service]:
    """Serves on a free port of the loopback while the block runs."""
    server = grpc.aio.server(interceptors=[EdgeInterceptor(slow_methods=SLOW_METHODS)])
    port = server.add_insecure_port("127.0.0.1:0")
    with tempfile.TemporaryDirectory() as directory:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            service = Service(channel, keys, store=store, repositories=repositories, address=f"127.0.0.1:{port}")
            files = BaseModelFiles(store, pathlib.Path(directory))
            around = Surroundings(
                store=store,
                sweeper=Sweeper(repositories.sweeps, repositories.pending, store, limit=1000, tasks=service.tasks),
                start_checker=service.checkers.start,
                tokens=service.tokens,
                small_files=files,
                tasks=service.tasks,
                upload_lifetime=upload_lifetime,
                server_places=server_places or {},
            )
            register(server, repositories, around)
            await server.start()
            try:
                yield service
            finally:
                await server.stop(2.0)


@contextlib.asynccontextmanager
async def refused(reason: str) -> AsyncIterator["Refusal"]:
    """Expects that the calls inside fail for `reason`; afterwards the yielded value tells the details."""
    refusal = Refusal()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refusal
    assert reason_of(caught.value) == reason, caught.value.details()
    refusal.read(caught.value)


class Refusal:
    """What a failed call said."""

    def read(self, error: grpc.aio.AioRpcError) -> None:
        from google.rpc import error_details_pb2

        self.message = error.details() or ""
        self.code = error.code()
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in from_rpc_error(error).details:
            detail.Unpack(info)
            detail.Unpack(bad_request)
        self.metadata = dict(info.metadata)
        self.hint = self.metadata.get("hint", "")
        self.fields = [violation.field for violation in bad_request.field_violations]
        self.descriptions = [violation.description for violation in bad_request.field_violations]


def row(answer: str = "hello", **extra: object) -> dict:
    """A good row."""
    return {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}], **extra}


def lines(*rows: object) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def checksums(content: bytes) -> dict[str, str]:
    """What storage tells of a file with these bytes."""
    return {"sha256": sha256(content), "blake3": blake3(content).hexdigest()}


def cut(content: bytes, size: int) -> Iterable[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def dataset_messages(content: bytes, *, chunk_bytes: int = 2**20, **header: object) -> list:
    first = dataset_service_pb2.UploadDatasetRequest(header=dataset_service_pb2.DatasetHeader(**header))
    return [first, *(dataset_service_pb2.UploadDatasetRequest(chunk=chunk) for chunk in cut(content, chunk_bytes))]


def declared(files: Mapping[str, bytes]) -> list[artifact_pb2.File]:
    return [artifact_pb2.File(path=path, size_bytes=len(data), sha256=sha256(data)) for path, data in files.items()]


def artifact_header(files: Mapping[str, bytes], /, **fields: object) -> artifact_service_pb2.ArtifactHeader:
    task = fields.pop("task", f"tasks/{uuid.uuid4()}")
    manifest = artifact_pb2.ArtifactManifest(
        files=fields.pop("declared", declared(files)), task=task, step=40, base_model="baseModels/tiny", metrics={"loss": 0.5}
    )
    fields = {"kind": artifact_pb2.Artifact.ADAPTER, "manifest": manifest, "epoch": 1, "request_id": "final"} | fields
    return artifact_service_pb2.ArtifactHeader(**fields)


def sealed_messages(files: Mapping[str, bytes], /, *, chunk_bytes: int = 2**20, seal: str = "sha256", **header: object) -> list:
    """As `artifact_messages`, but no SHA-256 is declared: behind its chunks each has the checksum of the kind `seal`."""
    message = artifact_service_pb2.UploadArtifactRequest
    without = [artifact_pb2.File(path=path, size_bytes=len(data)) for path, data in files.items()]
    sent = [message(header=artifact_header(files, declared=without, **header))]
    for path, data in files.items():
        sent += [*file_messages(message, {path: data}, chunk_bytes), message(**{seal: checksums(data)[seal]})]
    return sent


def artifact_messages(files: Mapping[str, bytes], /, *, chunk_bytes: int = 2**20, **header: object) -> list:
    message = artifact_service_pb2.UploadArtifactRequest
    return [message(header=artifact_header(files, **header)), *file_messages(message, files, chunk_bytes)]


def model_messages(files: Mapping[str, bytes], /, *, chunk_bytes: int = 2**20, **header: object) -> list:
    message = model_service_pb2.RegisterBaseModelRequest
    fields = {"name": "baseModels/tiny", "display_name": "Tiny", "family": "llama", "files": declared(files)} | header
    return [message(header=base_model_pb2.BaseModel(**fields)), *file_messages(message, files, chunk_bytes)]


def import_messages(files: Mapping[str, bytes], /, **header: object) -> list:
    message = model_service_pb2.ImportModelRequest
    fields = {"model": "models/mine", "files": declared(files)} | header
    return [message(header=model_service_pb2.ImportModelHeader(**fields)), *file_messages(message, files)]


def file_messages(message: Callable, files: Mapping[str, bytes], chunk_bytes: int = 2**20) -> list:
    sent = []
    for path, data in files.items():
        sent.append(message(path=path))
        sent += [message(chunk=chunk) for chunk in cut(data, chunk_bytes)]
    return sent


def tensors(payload: bytes = b"\0" * 16, header: bytes = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}') -> bytes:
    """A safetensors file."""
    return len(header).to_bytes(8, "little") + header + payload


def named_weights(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """A safetensors file of zeros, F32."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return tensors(bytes(end), json.dumps(header).encode())


def model_files(**changes: bytes) -> dict[str, bytes]:
    """The least a base model needs, with changes by path."""
    files = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b'{"version": "1.0"}', "model.safetensors": tensors()}
    return files | changes


async def joined(responses: AsyncIterator) -> bytes:
    return b"".join([response.chunk async for response in responses])
