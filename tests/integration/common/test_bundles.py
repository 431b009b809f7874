"""The bundle cache against a storage service that speaks the contract from memory."""

import asyncio
import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import AsyncIterator

import grpc
import pytest
from blake3 import blake3

from services.common import channels
from services.common.bundles import BundleStore
from services.common.errors import NotFound, ServiceError
from services.common.server import ServerSettings, serving
from tests.ports import free_port
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    base_model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    registered_model_pb2,
)

FILES = {"config.json": b"{}", "sub/model.safetensors": b"w" * 3_000_000}


def listed(files: dict[str, bytes]) -> list[artifact_pb2.File]:
    """Of the smaller ones storage knows the SHA-256 alone."""
    return [
        artifact_pb2.File(
            path=path,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            blake3=blake3(data).hexdigest() if len(data) > 2 else "",
        )
        for path, data in files.items()
    ]


class MemoryStorage(model_service_pb2_grpc.ModelServiceServicer, artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Has one base model and one artifact; counts downloads; `corrupt` flips what it sends, `damaged` what it stores."""

    def __init__(self) -> None:
        self.downloads = 0
        self.corrupt = False
        self.damaged = False
        self.break_off = False
        self.alone: list[bool] = []
        """Of each download: whether the caller was going to verify it."""

    async def GetBaseModel(self, request, context):
        if request.name != "baseModels/tiny":
            raise NotFound("BASE_MODEL_NOT_FOUND", request.name)
        return base_model_pb2.BaseModel(name=request.name, files=listed(FILES), revision="r1")

    async def DownloadModel(self, request, context):
        self.downloads += 1
        self.alone.append(request.caller_verifies)
        data = FILES[request.path]
        for start in range(0, len(data), 1 << 20):
            yield model_service_pb2.DownloadModelResponse(chunk=data[start : start + (1 << 20)])
            if self.break_off:
                raise ServiceError("OBJECT_STORE_UNAVAILABLE", "gone")
        if self.corrupt or self.damaged:
            yield model_service_pb2.DownloadModelResponse(chunk=b"!")
        if self.damaged and not request.caller_verifies:
            raise ServiceError("FILE_DAMAGED", f"{request.path} lies damaged")

    async def HoldArtifact(self, request, context):
        manifest = artifact_pb2.ArtifactManifest(
            files=listed({"a": b"1"}), base_model="baseModels/tiny", base_model_revision="r1"
        )
        return artifact_pb2.Artifact(name=request.name, manifest=manifest)

    async def GetModelVersion(self, request, context):
        manifest = artifact_pb2.ArtifactManifest(files=listed(FILES), base_model="baseModels/tiny", base_model_revision="r1")
        kind = registered_model_pb2.ModelVersion.Format.Value(request.name.rpartition("@")[2].upper())
        return registered_model_pb2.ModelVersion(name="models/mine/versions/3", format=kind, manifest=manifest)

    async def DownloadArtifact(self, request, context):
        self.alone.append(request.caller_verifies)
        yield artifact_service_pb2.DownloadArtifactResponse(chunk=b"2" if self.damaged else b"1")
        if self.damaged and not request.caller_verifies:
            raise ServiceError("FILE_DAMAGED", f"{request.path} lies damaged")


@contextlib.asynccontextmanager
async def storage(root: pathlib.Path, max_bytes: int = 0) -> AsyncIterator[tuple[MemoryStorage, BundleStore]]:
    memory = MemoryStorage()

    def register(server: grpc.aio.Server) -> None:
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(memory, server)
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(memory, server)

    settings = ServerSettings(listen=f"127.0.0.1:{free_port()}")
    async with (
        serving(settings, register, ["tunesmith.v1.ModelService"], grace=0.1),
        channels.connect(settings.listen) as channel,
    ):
        yield memory, BundleStore(channel, root, max_bytes=max_bytes)


def everything_below(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in root.iterdir() if path.name != ".lock")


async def test_a_base_model_arrives_whole(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (_, store):
        bundle = await store.base_model("baseModels/tiny")
    assert {path: (bundle.directory / path).read_bytes() for path in FILES} == FILES
    assert (bundle.base_model, bundle.base_model_revision) == ("baseModels/tiny", "r1")


async def test_an_artifact_knows_its_base_model(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (_, store):
        bundle = await store.artifact("artifacts/1")
    assert (bundle.directory / "a").read_bytes() == b"1"
    assert bundle.base_model == "baseModels/tiny"


@pytest.mark.parametrize(("alias", "is_adapter"), [("adapter", True), ("model", False)])
async def test_a_registered_version_says_whether_it_needs_its_base_model(
    tmp_path: pathlib.Path, alias: str, is_adapter: bool
) -> None:
    async with storage(tmp_path) as (_, store):
        bundle = await store.model_version(f"models/mine@{alias}")
    assert (bundle.name, bundle.is_adapter) == ("models/mine/versions/3", is_adapter)
    assert {path: (bundle.directory / path).read_bytes() for path in FILES} == FILES


async def test_many_askers_download_once(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (memory, store):
        bundles = await asyncio.gather(*(store.base_model("baseModels/tiny") for _ in range(5)))
    assert memory.downloads == len(FILES)
    assert len({bundle.directory for bundle in bundles}) == 1


async def test_the_cache_outlives_the_process(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (_, store):
        await store.base_model("baseModels/tiny")
    async with storage(tmp_path) as (memory, store):
        await store.base_model("baseModels/tiny")
        assert memory.downloads == 0


async def test_what_is_right_is_verified_once(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (memory, store):
        await store.base_model("baseModels/tiny")
        await store.artifact("artifacts/1")
    assert memory.alone == [True, True, True]


@pytest.mark.parametrize("kind", ["base_model", "artifact"])
async def test_storage_is_let_find_damage_and_says_so(tmp_path: pathlib.Path, kind: str) -> None:
    async with storage(tmp_path) as (memory, store):
        memory.damaged = True
        with pytest.raises(ServiceError, match="lies damaged") as caught:
            await getattr(store, kind)("baseModels/tiny")
        assert caught.value.reason == "FILE_DAMAGED"
        assert memory.alone == [True, False]
        assert everything_below(tmp_path) == []


async def test_a_wrong_byte_is_refused_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (memory, store):
        memory.corrupt = True
        with pytest.raises(ServiceError, match="SHA-256") as caught:
            await store.base_model("baseModels/tiny")
        assert caught.value.reason == "CHECKSUM_MISMATCH"
        assert everything_below(tmp_path) == []
        memory.corrupt = False
        assert await store.base_model("baseModels/tiny")


async def test_a_download_that_breaks_off_leaves_nothing_and_can_be_repeated(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (memory, store):
        memory.break_off = True
        with pytest.raises(ServiceError) as caught:
            await store.base_model("baseModels/tiny")
        assert caught.value.reason == "OBJECT_STORE_UNAVAILABLE"
        assert everything_below(tmp_path) == []
        memory.break_off = False
        assert await store.base_model("baseModels/tiny")


async def test_what_storage_says_of_an_unknown_model_passes_through(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path) as (_, store):
        with pytest.raises(ServiceError) as caught:
            await store.base_model("baseModels/absent")
    assert caught.value.reason == "BASE_MODEL_NOT_FOUND"


async def test_what_was_used_longest_ago_makes_room_for_what_is_fetched(tmp_path: pathlib.Path) -> None:
    async with storage(tmp_path, max_bytes=1000) as (memory, small):
        base = (await small.base_model("baseModels/tiny")).directory
        adapter = (await small.artifact("artifacts/1")).directory
        assert base.is_dir(), "it was in use within the hour"
        shutil.rmtree(adapter)
        os.utime(base, (1, 1))
        await small.artifact("artifacts/1")
        assert (adapter.is_dir(), base.is_dir(), memory.downloads) == (True, False, 2)
        await small.base_model("baseModels/tiny")
        assert memory.downloads == 4
