"""What runs that ask models need of storage: what a model was trained on, and a place for the rows they made."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from blake3 import blake3
from unit.trainer.trainer_values import make_request

from services.common.channels import connect
from services.common.errors import NotFound, ServiceError
from services.common.interceptors import EdgeInterceptor
from services.trainer.composition import Split
from services.trainer.kinds.table import describe
from services.trainer.run_directory import Provenance, Result
from services.trainer.storage_client import Adapter, AdapterFile, Learned, StorageClient, adapter_files
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    dataset_pb2,
    dataset_service_pb2_grpc,
    model_service_pb2_grpc,
    registered_model_pb2,
)

MANIFEST = artifact_pb2.ArtifactManifest(
    datasets=[artifact_pb2.DatasetUse(dataset=name) for name in ("datasets/a", "datasets/gone", "datasets/a", "datasets/b")],
    step=12,
)


class Storage(
    dataset_service_pb2_grpc.DatasetServiceServicer,
    artifact_service_pb2_grpc.ArtifactServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Two datasets, one artifact, one version."""

    def __init__(self) -> None:
        self.uploads: list[tuple[str, bytes]] = []
        self.artifacts: list[list[artifact_service_pb2.UploadArtifactRequest]] = []
        self.stored = b"weights"
        self.alone: list[bool] = []
        """Of each download: whether the caller was going to verify it."""
        self.manifest = artifact_pb2.ArtifactManifest()
        self.manifest.CopyFrom(MANIFEST)

    async def UploadArtifact(self, requests: Any, context: Any) -> artifact_pb2.Artifact:
        self.artifacts.append([request async for request in requests])
        return artifact_pb2.Artifact(name="artifacts/new")

    async def DownloadArtifact(self, request: Any, context: Any) -> AsyncIterator[artifact_service_pb2.DownloadArtifactResponse]:
        self.alone.append(request.caller_verifies)
        yield artifact_service_pb2.DownloadArtifactResponse(chunk=self.stored)
        if self.stored != b"weights" and not request.caller_verifies:
            raise ServiceError("FILE_DAMAGED", f"{request.path} lies damaged")

    async def GetArtifact(self, request: Any, context: Any) -> artifact_pb2.Artifact:
        if request.name != "artifacts/x":
            raise NotFound("ARTIFACT_NOT_FOUND", request.name)
        return artifact_pb2.Artifact(name=request.name, manifest=self.manifest)

    async def GetModelVersion(self, request: Any, context: Any) -> registered_model_pb2.ModelVersion:
        return registered_model_pb2.ModelVersion(name=request.name, manifest=MANIFEST)

    async def GetDataset(self, request: Any, context: Any) -> dataset_pb2.Dataset:
        if request.name == "datasets/gone":
            raise NotFound("DATASET_NOT_FOUND", request.name)
        if request.name == "datasets/b":
            return dataset_pb2.Dataset(name=request.name, size_bytes=2)
        return dataset_pb2.Dataset(name=request.name, size_bytes=1)

    async def UploadDataset(self, requests: Any, context: Any) -> dataset_pb2.Dataset:
        given = [request async for request in requests]
        self.uploads.append((given[0].header.display_name, b"".join(request.chunk for request in given)))
        return dataset_pb2.Dataset(name="datasets/new")


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
async def client(storage: Storage) -> AsyncIterator[StorageClient]:
    server = grpc.aio.server(interceptors=[EdgeInterceptor()])
    dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(storage, server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(storage, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(storage, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect(f"127.0.0.1:{port}") as channel:
        yield StorageClient(channel, describe=describe)
    await server.stop(0)


@pytest.mark.parametrize("model", ["artifacts/x", "models/m@best"])
async def test_what_a_model_has_learned_is_told_once_and_without_what_is_gone(client: StorageClient, model: str) -> None:
    assert await client.learned(model) == Learned(12, (("datasets/a", 1), ("datasets/b", 2)), None, 3)


async def test_what_a_model_has_held_out_is_told_by_the_numbers_that_decide_it(client: StorageClient, storage: Storage) -> None:
    storage.manifest.validation_split_ratio = 0.1
    storage.manifest.effective_hyperparameters.seed = 7
    assert (await client.learned("artifacts/x")).split == Split(0.1, 7)


async def test_a_base_model_was_trained_on_nothing_of_ours(client: StorageClient) -> None:
    assert await client.learned("baseModels/tiny") == Learned(0, ())


async def test_a_model_that_is_gone_is_said(client: StorageClient) -> None:
    with pytest.raises(ServiceError) as caught:
        await client.learned("artifacts/y")
    assert caught.value.reason == "ARTIFACT_NOT_FOUND"


async def test_rows_become_a_dataset(client: StorageClient, storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"x" * 1_200_000)
    assert await client.upload_dataset("answers", path) == "datasets/new"
    assert storage.uploads == [("answers", b"x" * 1_200_000)]


def adapter(directory: Path, *files: AdapterFile) -> Adapter:
    result, provenance = Result("ADAPTER", 7, {}, "", {}), Provenance("baseModels/tiny", "r1", "")
    return Adapter(directory, files, "tasks/t", provenance, result, make_request(), "r")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_a_checksum_that_is_not_known_is_computed_while_the_file_is_sent(
    client: StorageClient, storage: Storage, tmp_path: Path
) -> None:
    contents = {"a.bin": b"x" * 1_200_000, "empty": b"", "sub/b.bin": b"y"}
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    stored = await client.upload_adapter(adapter(tmp_path, *adapter_files(tmp_path)))
    assert stored.name == "artifacts/new"
    ((first, *messages),) = storage.artifacts
    assert [(file.path, file.size_bytes, file.sha256) for file in first.header.manifest.files] == [
        ("a.bin", 1_200_000, ""),
        ("empty", 0, ""),
        ("sub/b.bin", 1, ""),
    ]
    sent: dict[str, bytes] = {}
    for message in messages:
        match message.WhichOneof("payload"):
            case "path":
                sent[message.path] = b""
            case "chunk":
                sent[max(sent)] += message.chunk
            case "blake3":
                assert message.blake3 == blake3(sent[max(sent)]).hexdigest(), "of the file before it"
    assert sent == contents
    assert [message.WhichOneof("payload") for message in messages].count("blake3") == len(contents)


async def test_a_checksum_that_is_known_is_declared_and_does_not_follow(
    client: StorageClient, storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(b"weights")
    await client.upload_adapter(adapter(tmp_path, AdapterFile("a.bin", 7, "ab" * 32)))
    ((first, *messages),) = storage.artifacts
    assert [file.sha256 for file in first.header.manifest.files] == ["ab" * 32]
    assert [message.WhichOneof("payload") for message in messages] == ["path", "chunk"]


async def test_a_file_that_is_right_is_verified_once(client: StorageClient, storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "weights"
    await client.fetch_file("artifacts/x", AdapterFile("weights", 7, sha256(b"weights")), target)
    assert (target.read_bytes(), storage.alone) == (b"weights", [True])


async def test_storage_is_let_find_damage_and_says_so(client: StorageClient, storage: Storage, tmp_path: Path) -> None:
    storage.stored = b"wEights"
    with pytest.raises(ServiceError, match="lies damaged") as caught:
        await client.fetch_file("artifacts/x", AdapterFile("weights", 7, sha256(b"weights")), tmp_path / "weights")
    assert (caught.value.reason, storage.alone) == ("FILE_DAMAGED", [True, False])
    assert not (tmp_path / "weights").exists()
