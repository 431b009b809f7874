"""A storage service in memory that a test can hold up, break and take away; keeps the contract the trainer relies on."""

import asyncio
import hashlib
import json
import uuid

import grpc

from services.common.errors import NotFound, ServiceError
from services.common.interceptors import EdgeInterceptor
from tunesmith.checksum import Checksum
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    base_model_pb2,
    dataset_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

BASE_MODEL = "baseModels/tiny"
REVISION = "revision-1"
_CHUNK = 64 * 1024


class FakeStorage(
    dataset_service_pb2_grpc.DatasetServiceServicer,
    artifact_service_pb2_grpc.ArtifactServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """`download` and `upload` are gates: closed ones hold calls up in the middle."""

    def __init__(self) -> None:
        self.datasets: dict[str, bytes] = {}
        self.rows: dict[str, bytes] = {}
        """Of datasets whose rows are kept apart from the uploaded file."""
        self.model_files: dict[str, bytes] = {"config.json": b"{}"}
        self.artifacts: dict[str, artifact_pb2.Artifact] = {}
        self.contents: dict[str, dict[str, bytes]] = {}
        self.headers: list[artifact_service_pb2.ArtifactHeader] = []
        self.newest_epoch = 0
        self.corrupt_downloads = 0
        self.download, self.upload, self.answer = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.downloading, self.uploading, self.stored = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for gate in (self.download, self.upload, self.answer):
            gate.set()
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server(interceptors=[EdgeInterceptor()], options=[("grpc.so_reuseport", 0)])
        dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(self, self._server)
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(self, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(0)
            self._server = None

    def add_script(self, *script: dict) -> str:
        """A dataset whose first row tells the fake training process what to do."""
        return self.add_dataset(json.dumps({"script": script}).encode() + b"\n" + b'{"messages": []}\n' * 20_000)

    def add_dataset(self, content: bytes) -> str:
        name = f"datasets/{uuid.uuid4()}"
        self.datasets[name] = content
        return name

    def add_rows(self, content: bytes, original: bytes = b"[]") -> str:
        """A dataset whose rows are not the bytes that were uploaded."""
        name = self.add_dataset(original)
        self.rows[name] = content
        return name

    async def GetDataset(self, request, context):
        if request.name not in self.datasets:
            raise NotFound("DATASET_NOT_FOUND", request.name)
        content = self.datasets[request.name]
        dataset = dataset_pb2.Dataset(name=request.name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        if request.name in self.rows:
            dataset.rows_sha256 = hashlib.sha256(self.rows[request.name]).hexdigest()
        return dataset

    async def DownloadDataset(self, request, context):
        content = self.rows[request.name] if request.content == request.ROWS else self.datasets[request.name]
        if self.corrupt_downloads:
            self.corrupt_downloads -= 1
            content = b"x" + content[1:]
        for start in range(0, len(content), _CHUNK):
            yield dataset_service_pb2.DownloadDatasetResponse(chunk=content[start : start + _CHUNK])
            self.downloading.set()
            await self.download.wait()

    async def UploadDataset(self, request_iterator, context):
        display_name = (await anext(request_iterator)).header.display_name
        content = b"".join([request.chunk async for request in request_iterator])
        return dataset_pb2.Dataset(name=self.add_dataset(content), display_name=display_name)

    async def GetBaseModel(self, request, context):
        files = [_file(path, content) for path, content in self.model_files.items()]
        return base_model_pb2.BaseModel(name=BASE_MODEL, files=files, revision=REVISION)

    async def DownloadModel(self, request, context):
        content = self.model_files[request.path]
        for start in range(0, len(content), _CHUNK):
            yield model_service_pb2.DownloadModelResponse(chunk=content[start : start + _CHUNK])

    async def UploadArtifact(self, request_iterator, context):
        header = (await anext(request_iterator)).header
        self.headers.append(header)
        if header.epoch < self.newest_epoch:
            raise ServiceError("STALE_EPOCH", f"epoch {self.newest_epoch} has written already")
        if header.request_id not in self.artifacts:
            contents, sealed = await self._receive(request_iterator)
            for file in header.manifest.files:
                if (file.sha256 == "") != (file.path in sealed):
                    raise ServiceError("UPLOAD_MALFORMED", f"{file.path} has two digests or none")
                told = Checksum(file.sha256, sealed.get(file.path, ""))
                if not told.fits(contents[file.path]):
                    raise ServiceError("CHECKSUM_MISMATCH", f"{file.path} differs")
                file.sha256 = hashlib.sha256(contents[file.path]).hexdigest()
            self._store(header, contents)
        self.stored.set()
        await self.answer.wait()
        return self.artifacts[header.request_id]

    async def ListArtifacts(self, request, context):
        found = [each for each in self.artifacts.values() if (each.manifest.task, each.kind) == (request.task, request.kind)]
        return artifact_service_pb2.ListArtifactsResponse(artifacts=found)

    async def DownloadArtifact(self, request, context):
        (request_id,) = [key for key, artifact in self.artifacts.items() if artifact.name == request.name]
        yield artifact_service_pb2.DownloadArtifactResponse(chunk=self.contents[request_id][request.path])

    async def _receive(self, messages) -> tuple[dict[str, bytes], dict[str, str]]:
        """The files, and the BLAKE3 of those that have one behind them."""
        contents: dict[str, bytes] = {}
        sealed: dict[str, str] = {}
        path = ""
        async for message in messages:
            if message.WhichOneof("payload") == "path":
                path = message.path
                contents[path] = b""
            elif message.WhichOneof("payload") == "blake3":
                sealed[path] = message.blake3
            else:
                contents[path] += message.chunk
            self.uploading.set()
            await self.upload.wait()
        return contents, sealed

    def _store(self, header: artifact_service_pb2.ArtifactHeader, contents: dict[str, bytes]) -> None:
        artifact = artifact_pb2.Artifact(
            name=f"artifacts/{uuid.uuid4()}",
            kind=header.kind,
            state=artifact_pb2.Artifact.AVAILABLE,
            manifest=header.manifest,
            size_bytes=sum(map(len, contents.values())),
        )
        artifact.expire_time.FromSeconds(2_000_000_000)
        self.artifacts[header.request_id] = artifact
        self.contents[header.request_id] = contents


def _file(path: str, content: bytes) -> artifact_pb2.File:
    return artifact_pb2.File(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
