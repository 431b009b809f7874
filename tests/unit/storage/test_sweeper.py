<<<<<<< HEAD
"""The sweeper between decision and bytes."""
=======
"""What uploads that died have left is removed when its time has come, and nothing before."""
>>>>>>> main

import asyncio
import datetime

import pytest
<<<<<<< HEAD
from structlog.testing import capture_logs
from unit.storage.artifact_suite import until
from unit.storage.fakes import MemoryObjectStore, repositories_of
from unit.storage.memory_tables import Clock, Tables
from unit.storage.repository_suite import artifact_draft, keys

from services.common.errors import Unavailable
from services.storage.registration import Repositories
from services.storage.sweeper import Sweeper

DAY = datetime.timedelta(days=1)


class Fragile(MemoryObjectStore):
    """Goes away after so many removals."""

    removals = 100

    async def remove(self, key: str) -> None:
        if self.removals <= 0:
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "gone")
        self.removals -= 1
        await super().remove(key)


@pytest.fixture
def tables(clock: Clock) -> Tables:
    return Tables(clock)


@pytest.fixture
def repositories(tables: Tables) -> Repositories:
    return repositories_of(tables)


@pytest.fixture
async def doomed(repositories: Repositories, clock: Clock) -> Fragile:
    """A store whose two objects are due to go."""
    store = Fragile()
    store.objects = dict.fromkeys(keys("one").values(), b"x")
    await repositories.artifacts.add(artifact_draft(), keys("one"))
    clock.time += 16 * DAY
    await Sweeper(repositories.sweeps, store, limit=9).sweep(dry_run=False)
    clock.time += 4 * DAY
    return store


async def test_a_store_that_goes_away_half_way_is_made_up_for(repositories: Repositories, doomed: Fragile) -> None:
    sweeper = Sweeper(repositories.sweeps, doomed, limit=9)
    doomed.removals = 1
    first, _ = await sweeper.sweep(dry_run=False)
    assert (len(first.objects), len(doomed.objects)) == (1, 1)
    doomed.removals = 100
    second, _ = await sweeper.sweep(dry_run=False)
    assert (len(second.objects), doomed.objects) == (1, {})


async def test_killed_after_the_removal_and_before_its_record_it_removes_again(
    repositories: Repositories, doomed: Fragile
) -> None:
    sweep = await repositories.sweeps.decide([], 9, dry_run=False)
    for item in sweep.objects:
        await doomed.remove(item.key)
    again, _ = await Sweeper(repositories.sweeps, doomed, limit=9).sweep(dry_run=False)
    assert again.objects == sweep.objects
    assert not (await Sweeper(repositories.sweeps, doomed, limit=9).sweep(dry_run=False))[0].objects


async def test_switched_to_dry_run_it_never_changes_anything(repositories: Repositories, doomed: Fragile, tables: Tables) -> None:
    before = tables.snapshot()
    sweep, dry_run = await Sweeper(repositories.sweeps, doomed, limit=9, dry_run=True).sweep(dry_run=False)
    assert (len(sweep.deleted), dry_run, len(doomed.objects)) == (1, True, 2)
    assert tables.snapshot() == before


async def test_the_loop_survives_failures_and_goes_on(repositories: Repositories, doomed: Fragile) -> None:
    doomed.away = True
    with capture_logs() as logs:
        loop = asyncio.create_task(Sweeper(repositories.sweeps, doomed, limit=9).run(0.001))

        async def logged(event: str) -> bool:
            return any(entry["event"] == event for entry in logs)

        await until(lambda: logged("sweep.failed"))
        doomed.away = False
        await until(lambda: logged("sweep.done"))
        loop.cancel()
        await asyncio.wait([loop])
    assert doomed.objects == {}


async def test_what_ends_and_what_will_is_told_in_the_log(repositories: Repositories, clock: Clock) -> None:
    await repositories.artifacts.add(artifact_draft(), keys("one"))
    sweeper = Sweeper(repositories.sweeps, MemoryObjectStore(), limit=9)
    with capture_logs() as logs:
        for step in (8.5, 7, 3.1):
            clock.time += step * DAY
            await sweeper.sweep(dry_run=False)
    told = [(entry["event"], entry.get("days")) for entry in logs]
    assert told == [("artifact.expiring", 7), ("artifact.expired", None), ("artifact.deleted", None)]
=======
from unit.storage.artifact_suite import until
from unit.storage.fakes import Clock, MemoryObjectStore
from unit.storage.part_upload_suite import BIG, begin, complete, send
from unit.storage.service import Service, lines, refused, row

from services.storage.sweeper import Sweeper

DAY = datetime.timedelta(hours=24)


async def leave(service: Service, store: MemoryObjectStore, key: str) -> None:
    """What a process leaves that is killed after it has written an object."""
    await service.repositories.pending.add(key)
    store.objects[key] = b"x"


async def test_objects_of_dead_uploads_go_after_a_day(service: Service, store: MemoryObjectStore, clock: Clock) -> None:
    kept = await service.upload(lines(row()))
    await leave(service, store, "blobs/left")
    clock.time += DAY - datetime.timedelta(minutes=1)
    assert await service.sweep() == 0
    clock.time += datetime.timedelta(minutes=1)
    assert await service.sweep() == 1
    assert "blobs/left" not in store.objects
    assert await service.download(kept.name) == lines(row())
    assert await service.sweep() == 0


async def test_more_than_one_batch_goes_in_one_sweep(service: Service, store: MemoryObjectStore, clock: Clock) -> None:
    for number in range(250):
        await leave(service, store, f"blobs/{number}")
    clock.time += DAY
    assert await service.sweep() == 250
    assert store.objects == {}


async def test_what_cannot_be_removed_is_tried_again(service: Service, store: MemoryObjectStore, clock: Clock) -> None:
    await leave(service, store, "blobs/left")
    clock.time += DAY
    store.away = True
    assert await service.sweep() == 0
    store.away = False
    assert await service.sweep() == 1


async def test_bytes_of_a_deleted_dataset_go_when_the_store_is_back(service: Service, store: MemoryObjectStore) -> None:
    dataset = await service.upload(lines(row()))
    store.away = True
    await service.delete(dataset.name)
    assert len(store.objects) == 1
    store.away = False
    assert await service.sweep() == 1
    assert store.objects == {}


async def test_an_upload_in_parts_expires_with_its_parts(service: Service, store: MemoryObjectStore, clock: Clock) -> None:
    upload = await begin(service, BIG)
    await store.send_part(upload.parts[0].url, BIG[: upload.parts[0].size_bytes])
    clock.time += DAY
    async with refused("UPLOAD_NOT_FOUND"):
        await complete(service, upload)
    await service.sweep()
    assert store.parts == {}


async def test_a_completion_that_the_sweeper_overtakes_stores_nothing(
    service: Service, store: MemoryObjectStore, clock: Clock
) -> None:
    upload = await begin(service, BIG)
    await send(upload, BIG, store.send_part)
    key = f"blobs/{upload.name.removeprefix('datasetUploads/')}"
    service.repositories.pending.condemn([key])
    async with refused("UPLOAD_EXPIRED"):
        await complete(service, upload)
    await service.sweep()
    assert store.objects == {}


async def test_without_a_public_address_nothing_is_begun(service: Service, store: MemoryObjectStore) -> None:
    store.public = False
    async with refused("PRESIGNED_UPLOADS_OFF"):
        await begin(service, BIG)
    assert (store.parts, service.repositories.pending.records) == ({}, {})


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), None])
async def test_the_loop_outlives_failures(
    service: Service, store: MemoryObjectStore, clock: Clock, failure: Exception | None
) -> None:
    await leave(service, store, "blobs/left")
    clock.time += DAY
    records = service.repositories.pending
    calls = 0
    take = records.take_expired

    async def fail_once(limit: int) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 1 and failure is not None:
            raise failure
        return await take(limit)

    records.take_expired = fail_once
    sweeper = Sweeper(records, service.repositories.part_uploads, store)
    loop = asyncio.create_task(sweeper.run(datetime.timedelta(milliseconds=1)))

    async def clean() -> bool:
        return not store.objects

    await until(clean)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
>>>>>>> main
