"""The scrubber keeps its pace and judges nobody who is away."""

import asyncio
import datetime
from collections.abc import AsyncIterator

import pytest
from unit.storage.artifact_suite import until
from unit.storage.fakes import MemoryObjectStore, repositories_of
from unit.storage.memory_tables import Clock, Tables
from unit.storage.repository_suite import artifact_draft, keys
from unit.storage.service import refused, running_service

from services.common.errors import Unavailable
from services.storage.registration import Repositories
from services.storage.scrubber import MISSING, Scrubber
from tunesmith.v1 import artifact_service_pb2

MONTH = datetime.timedelta(days=30)


class Noisy(MemoryObjectStore):
    """The first answer of every object comes with other bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.read_before: set[str] = set()

    async def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        async for chunk in super().read(key, offset, size_bytes):
            yield chunk if key in self.read_before else chunk[::-1]
        self.read_before.add(key)


@pytest.fixture
def tables(clock: Clock) -> Tables:
    return Tables(clock)


@pytest.fixture
def repositories(tables: Tables) -> Repositories:
    return repositories_of(tables)


@pytest.fixture
async def due(repositories: Repositories, clock: Clock) -> MemoryObjectStore:
    """A store with what is due to be read."""
    store, made = MemoryObjectStore(), await keys(repositories, "one")
    artifact = await repositories.artifacts.add(artifact_draft(), made)
    store.objects = {file.object_key: b"x" * file.size_bytes for file in artifact.files}
    clock.time += 2 * MONTH
    return store


async def test_it_reads_no_faster_than_told(repositories: Repositories, due: MemoryObjectStore, tables: Tables) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    scrubber = Scrubber(repositories.scrubs, due, bytes_per_second=2, interval=MONTH, sleep=sleep)
    while await scrubber.check_next():
        pass
    read = [len(content) for content in due.objects.values() if content]
    # None of it has its SHA-256, so all is read once more.
    assert sorted(slept) == sorted(size / 2 for size in read * 2)


async def test_a_store_that_is_away_has_damaged_nothing(
    repositories: Repositories, due: MemoryObjectStore, tables: Tables, clock: Clock
) -> None:
    scrubber = Scrubber(repositories.scrubs, due, bytes_per_second=10**9, interval=MONTH)
    due.away = True
    for _ in range(len(due.objects)):
        with pytest.raises(Unavailable):
            await scrubber.check_next()
    assert not await scrubber.check_next()
    assert {blob.damage for blob in tables.blobs.values()} == {""}
    due.away = False
    clock.time += datetime.timedelta(minutes=2)
    assert await scrubber.check_next()


async def test_the_loop_survives_an_outage_and_then_finds_what_is_gone(
    repositories: Repositories, due: MemoryObjectStore, tables: Tables, clock: Clock
) -> None:
    async def sleep(seconds: float) -> None:
        clock.time += datetime.timedelta(seconds=seconds)
        due.away = False
        await asyncio.sleep(0)

    due.objects.clear()
    due.away = True
    loop = asyncio.create_task(Scrubber(repositories.scrubs, due, bytes_per_second=1, interval=MONTH, sleep=sleep).run())

    async def found() -> bool:
        return {blob.damage for blob in tables.blobs.values()} == {MISSING}

    await until(found)
    loop.cancel()
    await asyncio.wait([loop])


async def test_bytes_that_change_on_their_way_are_no_damage(tables: Tables, repositories: Repositories, clock: Clock) -> None:
    store = Noisy()
    async with running_service(repositories, store, set) as service:
        artifact = await service.store_artifact({"w": b"weights"})
        async with refused("OBJECT_STORE_UNAVAILABLE"):
            await service.download_artifact(artifact.name, "w")
        assert await service.download_artifact(artifact.name, "w") == b"weights"
        store.read_before.clear()
        clock.time += 2 * MONTH
        assert await Scrubber(repositories.scrubs, store, bytes_per_second=10**9, interval=MONTH).check_next()
        check = await service.artifacts.GetStorageCheck(artifact_service_pb2.GetStorageCheckRequest())
    assert (check.content_count, list(check.damages)) == (1, [])
