"""Downloads hold nothing longer than they need it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from unit.storage.artifact_suite import until
from unit.storage.fakes import Clock, MemoryObjectStore, memory_repositories
from unit.storage.service import Service, lines, row, running_service

from tunesmith.v1 import dataset_service_pb2


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
