"""What callers that verify files themselves and storage promise each other; run against the fakes and against Postgres and S3."""

import asyncio
import pathlib
from collections.abc import Awaitable, Callable

import pytest
from unit.storage.scrub_suite import check, rot, shown
from unit.storage.service import Service, checksums
from unit.trainer.trainer_values import TASK, make_request

from services.common.bundles import BundleStore
from services.common.errors import ServiceError
from services.storage.object_store import ObjectStore
from services.trainer.run_directory import Provenance, Result
from services.trainer.storage_client import Adapter, AdapterFile, StorageClient, adapter_files
from tunesmith import Client
from tunesmith.errors import TunesmithError
from tunesmith.v1 import artifact_pb2

WEIGHTS = bytes(range(256)) * 40_000
"""More than the least that clients read straight from the object store."""
ROTTEN = b"?" + WEIGHTS[1:]
FILE = AdapterFile("w.bin", len(WEIGHTS), **checksums(WEIGHTS))

Fetch = Callable[[Service, str, pathlib.Path], Awaitable[object]]


def trainer(service: Service) -> StorageClient:
    return StorageClient(service.channel, describe=lambda _: artifact_pb2.ArtifactManifest(base_model="baseModels/tiny"))


async def by_client(service: Service, artifact: str, directory: pathlib.Path) -> None:
    with Client(storage=service.address) as client:
        await asyncio.to_thread(client.download_artifact, artifact, directory)


async def by_trainer(service: Service, artifact: str, directory: pathlib.Path) -> None:
    await trainer(service).fetch_file(artifact, FILE, directory / FILE.path)


async def by_bundles(service: Service, artifact: str, directory: pathlib.Path) -> None:
    bundle = await BundleStore(service.channel, directory / "cache").artifact(artifact)
    (directory / FILE.path).write_bytes((bundle.directory / FILE.path).read_bytes())


CALLERS = pytest.mark.parametrize("fetch", [by_client, by_trainer, by_bundles])


class TransferSuite:
    """Tests take the fixtures `service` and `store`."""

    @CALLERS
    async def test_a_file_arrives_as_it_was(self, service: Service, tmp_path: pathlib.Path, fetch: Fetch) -> None:
        artifact = await service.store_artifact({FILE.path: WEIGHTS})
        await fetch(service, artifact.name, tmp_path)
        assert (tmp_path / FILE.path).read_bytes() == WEIGHTS
        assert not (await check(service)).damages

    @CALLERS
    async def test_stored_damage_is_told_by_its_code_and_marked_for_all_others(
        self, service: Service, store: ObjectStore, tmp_path: pathlib.Path, fetch: Fetch
    ) -> None:
        artifact = await service.store_artifact({FILE.path: WEIGHTS})
        await rot(service, store, WEIGHTS, ROTTEN)
        with pytest.raises((ServiceError, TunesmithError)) as caught:
            await fetch(service, artifact.name, tmp_path)
        assert caught.value.reason == "FILE_DAMAGED"
        assert not (tmp_path / FILE.path).exists()
        assert list((await shown(service, artifact.name)).damaged_files) == [FILE.path]
        assert [damage.sha256 for damage in (await check(service)).damages] == [FILE.sha256]

    async def test_what_a_trainer_sends_is_stored_with_the_checksums_that_follow(
        self, service: Service, tmp_path: pathlib.Path
    ) -> None:
        contents = {"adapter.json": b"{}", "deep/w.bin": WEIGHTS * 2, "empty": b""}
        for path, content in contents.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(content)
        result, provenance = Result("ADAPTER", 7, {}, "", {}), Provenance("baseModels/tiny", "r1", "")
        files = adapter_files(tmp_path)
        adapter = Adapter(tmp_path, files, f"tasks/{TASK}", provenance, result, make_request(), "r")
        stored = await shown(service, (await trainer(service).upload_adapter(adapter)).name)
        found = {file.path: {"sha256": file.sha256, "blake3": file.blake3} for file in stored.manifest.files}
        assert found == {path: checksums(content) for path, content in contents.items()}
        assert stored.manifest.step == 7
        for path, content in contents.items():
            assert await service.download_artifact(stored.name, path) == content
