"""Downloads hold nothing longer than they need it, and nothing up."""

import asyncio
import hashlib
import random
import threading
import types
from collections.abc import AsyncIterator

import grpc
import pytest
from unit.storage.artifact_suite import until
from unit.storage.fakes import Clock, MemoryObjectStore, memory_repositories
from unit.storage.service import Service, lines, row, running_service

from services.storage import verified_read
from services.storage.object_store import CHUNK_BYTES
from tunesmith.v1 import artifact_service_pb2, dataset_service_pb2


class CountingStore(MemoryObjectStore):
    """Sends endlessly and knows how many readers are at it."""

    def __init__(self) -> None:
        super().__init__()
        self.readers = 0

    async def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        self.readers += 1
        try:
            while True:
                await asyncio.sleep(0)
                yield b"x" * 1000
        finally:
            self.readers -= 1


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
async def service(clock: Clock, store: CountingStore) -> AsyncIterator[Service]:
    async def keys() -> set[str]:
        return set(store.objects)

    async with running_service(memory_repositories(clock), store, keys) as service:
        yield service


async def test_a_client_that_goes_away_ends_the_reading(service: Service, store: CountingStore) -> None:
    dataset = await service.upload(lines(row()))
    call = service.datasets.DownloadDataset(dataset_service_pb2.DownloadDatasetRequest(name=dataset.name))
    assert (await call.read()).chunk == b"x" * 1000
    assert store.readers == 1
    call.cancel()

    async def nobody_reads() -> bool:
        return store.readers == 0

    await until(nobody_reads)


class HeldDigest:
    """Computes SHA-256 only after somebody has let it."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self._digest = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        assert self.released.wait(10), "the chunk is sent only after it was hashed"
        self._digest.update(chunk)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@pytest.fixture
async def plain(clock: Clock) -> AsyncIterator[Service]:
    store = MemoryObjectStore()

    async def keys() -> set[str]:
        return set(store.objects)

    async with running_service(memory_repositories(clock), store, keys) as service:
        yield service


async def test_a_chunk_is_on_its_way_while_it_is_hashed(plain: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(3).randbytes(CHUNK_BYTES + 1)
    artifact = await plain.store_artifact({"a.safetensors": data})
    digest = HeldDigest()
    monkeypatch.setattr(verified_read, "hashlib", types.SimpleNamespace(sha256=lambda: digest))
    request = artifact_service_pb2.DownloadArtifactRequest(name=artifact.name, path="a.safetensors")
    call = plain.artifacts.DownloadArtifact(request)
    first = await call.read()
    digest.released.set()
    last = await call.read()
    assert first.chunk + last.chunk == data
    assert await call.read() is grpc.aio.EOF
    assert dict(await call.trailing_metadata())[verified_read.TRAILER] == hashlib.sha256(data).hexdigest()
