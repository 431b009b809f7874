"""Objects no row refers to are removed, and no object a row may refer to ever is."""

import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest
from unit.storage.fakes import MemoryObjectStore, MemoryPendingObjectRepository
from unit.storage.memory_tables import Clock, Tables

from services.common.catalogue import ErrorClass
from services.common.errors import ServiceError, Unavailable
from services.storage.pending_objects import PendingObjects, pending_objects, remove_objects


@pytest.fixture
def records() -> MemoryPendingObjectRepository:
    return MemoryPendingObjectRepository(Tables(Clock()))


async def put(pending: PendingObjects, key: str) -> None:
    await pending.put(key, io.BytesIO(b"x"), 1)


async def committed() -> str:
    return "row"


def failing(error: BaseException) -> Callable[[], Awaitable[str]]:
    async def commit() -> str:
        raise error

    return commit


async def test_what_a_row_refers_to_stays_and_the_rest_goes(records: MemoryPendingObjectRepository) -> None:
    store = MemoryObjectStore()
    async with pending_objects(store, records) as pending:
        await put(pending, "kept")
        await put(pending, "spare")
        assert await pending.commit(committed()) == "row"
        pending.keep(["kept"])
        records.tables.claim(["kept"])
    assert set(store.objects) == {"kept"}
    assert records.tables.pending == {}


async def test_a_failure_before_the_commit_leaves_nothing(records: MemoryPendingObjectRepository) -> None:
    store = MemoryObjectStore()
    with pytest.raises(ValueError, match="broken"):
        async with pending_objects(store, records) as pending:
            await put(pending, "key")
            raise ValueError("broken")
    assert store.objects == {}


async def test_a_refused_commit_leaves_nothing(records: MemoryPendingObjectRepository) -> None:
    store = MemoryObjectStore()
    with pytest.raises(ServiceError):
        async with pending_objects(store, records) as pending:
            await put(pending, "key")
            await pending.commit(failing(ServiceError("STALE_EPOCH", "over"))())
    assert store.objects == {}


@pytest.mark.parametrize("error", [Unavailable("POSTGRES_UNAVAILABLE", "gone"), asyncio.CancelledError(), KeyError("x")])
async def test_a_commit_of_unknown_outcome_leaves_the_bytes(records: MemoryPendingObjectRepository, error: BaseException) -> None:
    store = MemoryObjectStore()
    with pytest.raises(type(error)):
        async with pending_objects(store, records) as pending:
            await put(pending, "key")
            await pending.commit(failing(error)())
    assert set(store.objects) == {"key"}
    assert set(records.tables.pending) == {"key"}


async def test_a_put_that_failed_half_way_is_removed_too(records: MemoryPendingObjectRepository) -> None:
    class HalfWay(MemoryObjectStore):
        async def put(self, key: str, content: io.BytesIO, size_bytes: int) -> None:
            await super().put(key, content, size_bytes)
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "lost")

    store = HalfWay()
    with pytest.raises(Unavailable):
        async with pending_objects(store, records) as pending:
            await put(pending, "key")
    assert store.objects == {}


async def test_a_key_that_is_taken_is_told_and_what_lies_there_stays(records: MemoryPendingObjectRepository) -> None:
    store = MemoryObjectStore()
    await store.probe()
    store.objects["theirs"] = b"other"
    with pytest.raises(ServiceError) as caught:
        async with pending_objects(store, records) as pending:
            await put(pending, "mine")
            await put(pending, "theirs")
    assert (caught.value.reason, caught.value.error_class) == ("OBJECT_EXISTS", ErrorClass.PLATFORM)
    assert store.objects == {"theirs": b"other"}
    assert records.tables.pending == {}, "the sweeper would remove what lies there"


async def test_a_store_that_is_away_does_not_hide_the_first_failure(records: MemoryPendingObjectRepository) -> None:
    store = MemoryObjectStore()
    with pytest.raises(ValueError, match="first"):
        async with pending_objects(store, records) as pending:
            await put(pending, "key")
            store.away = True
            raise ValueError("first")


async def test_an_object_is_recorded_before_it_is_written(records: MemoryPendingObjectRepository) -> None:
    store = MemoryObjectStore()
    store.away = True
    with pytest.raises(Unavailable):
        async with pending_objects(store, records) as pending:
            await put(pending, "key")
    assert set(records.tables.pending) == {"key"}


async def test_what_cannot_be_removed_now_stays_recorded(records: MemoryPendingObjectRepository) -> None:
    store = MemoryObjectStore()
    store.objects["key"] = b"x"
    await records.add("key", 1)
    store.away = True
    assert await remove_objects(store, records, ["key"]) == []
    assert set(records.tables.pending) == {"key"}
    store.away = False
    assert await remove_objects(store, records, ["key"]) == ["key"]
    assert (store.objects, records.tables.pending) == ({}, {})
