"""What uploads that died have left is removed when its time has come, and nothing before."""

import asyncio
import datetime
from collections.abc import Sequence
from typing import Any

import pytest
from unit.storage.artifact_suite import until
from unit.storage.fakes import Clock, MemoryObjectStore
from unit.storage.part_upload_suite import BIG, begin, complete, send
from unit.storage.service import Service, lines, refused, row

from services.storage.sweep import StoredObject, Sweep
from services.storage.sweeper import Sweeper

DAY = datetime.timedelta(hours=24)


async def leave(service: Service, store: MemoryObjectStore, key: str) -> None:
    """What a process leaves that is killed after it has written an object."""
    await service.repositories.pending.add(key, 1)
    store.objects[key] = b"x"


async def test_objects_of_dead_uploads_go_after_a_day(service: Service, store: MemoryObjectStore, clock: Clock) -> None:
    kept = await service.upload(lines(row()))
    await leave(service, store, "blobs/left")
    clock.time += DAY - datetime.timedelta(minutes=1)
    assert (await service.sweep()).removed_object_count == 0
    clock.time += datetime.timedelta(minutes=1)
    assert (await service.sweep()).removed_object_count == 1
    assert "blobs/left" not in store.objects
    assert await service.download(kept.name) == lines(row())
    assert (await service.sweep()).removed_object_count == 0


async def test_all_that_is_left_goes_in_one_sweep(service: Service, store: MemoryObjectStore, clock: Clock) -> None:
    for number in range(250):
        await leave(service, store, f"blobs/{number}")
    clock.time += DAY
    sweep = await service.sweep()
    assert (sweep.removed_object_count, sweep.removed_bytes, sweep.truncated) == (250, 250, False)
    assert store.objects == {}


async def test_what_cannot_be_removed_is_tried_again(service: Service, store: MemoryObjectStore, clock: Clock) -> None:
    await leave(service, store, "blobs/left")
    clock.time += DAY
    store.away = True
    async with refused("OBJECT_STORE_UNAVAILABLE"):
        await service.sweep()
    store.away = False
    assert (await service.sweep()).removed_object_count == 1


async def test_bytes_of_a_deleted_dataset_go_when_the_store_is_back(service: Service, store: MemoryObjectStore) -> None:
    dataset = await service.upload(lines(row()))
    store.away = True
    await service.delete(dataset.name)
    assert len(store.objects) == 1
    store.away = False
    assert (await service.sweep()).removed_object_count == 1
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
    service.repositories.pending.tables.condemn({key: len(BIG)})
    async with refused("UPLOAD_EXPIRED"):
        await complete(service, upload)
    await service.sweep()
    assert store.objects == {}


async def test_without_a_public_address_nothing_is_begun(service: Service, store: MemoryObjectStore) -> None:
    store.public = False
    async with refused("PRESIGNED_UPLOADS_OFF"):
        await begin(service, BIG)
    assert (store.parts, service.repositories.pending.tables.pending) == ({}, {})


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), None])
async def test_the_loop_outlives_failures(
    service: Service, store: MemoryObjectStore, clock: Clock, failure: Exception | None
) -> None:
    await leave(service, store, "blobs/left")
    clock.time += DAY
    sweeps = service.repositories.sweeps
    calls = 0
    decide = sweeps.decide

    async def fail_once(found: Sequence[StoredObject], limit: int, **how: Any) -> Sweep:
        nonlocal calls
        calls += 1
        if calls == 1 and failure is not None:
            raise failure
        return await decide(found, limit, **how)

    sweeps.decide = fail_once
    sweeper = Sweeper(sweeps, service.repositories.pending, store, limit=100)
    loop = asyncio.create_task(sweeper.run(datetime.timedelta(milliseconds=1)))

    async def clean() -> bool:
        return not store.objects

    await until(clean)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop
