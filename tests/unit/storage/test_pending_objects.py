"""Objects no row refers to are removed, and no object a row may refer to ever is."""

import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest
from unit.storage.fakes import MemoryObjectStore

from services.common.errors import ServiceError, Unavailable
from services.storage.pending_objects import PendingObjects, pending_objects, remove_quietly


async def put(pending: PendingObjects, key: str) -> None:
    await pending.put(key, io.BytesIO(b"x"), 1)


async def committed() -> str:
    return "row"


def failing(error: BaseException) -> Callable[[], Awaitable[str]]:
    async def commit() -> str:
        raise error

    return commit


async def test_what_a_row_refers_to_stays_and_the_rest_goes() -> None:
    store = MemoryObjectStore()
    async with pending_objects(store) as pending:
        await put(pending, "kept")
        await put(pending, "spare")
        assert await pending.commit(committed()) == "row"
        pending.keep(["kept"])
    assert set(store.objects) == {"kept"}


async def test_a_failure_before_the_commit_leaves_nothing() -> None:
    store = MemoryObjectStore()
    with pytest.raises(ValueError, match="broken"):
        async with pending_objects(store) as pending:
            await put(pending, "key")
            raise ValueError("broken")
    assert store.objects == {}


async def test_a_refused_commit_leaves_nothing() -> None:
    store = MemoryObjectStore()
    with pytest.raises(ServiceError):
        async with pending_objects(store) as pending:
            await put(pending, "key")
            await pending.commit(failing(ServiceError("STALE_EPOCH", "over"))())
    assert store.objects == {}


@pytest.mark.parametrize("error", [Unavailable("POSTGRES_UNAVAILABLE", "gone"), asyncio.CancelledError()])
async def test_a_commit_of_unknown_outcome_leaves_the_bytes(error: BaseException) -> None:
    store = MemoryObjectStore()
    with pytest.raises(type(error)):
        async with pending_objects(store) as pending:
            await put(pending, "key")
            await pending.commit(failing(error)())
    assert set(store.objects) == {"key"}


async def test_a_put_that_failed_half_way_is_removed_too() -> None:
    class HalfWay(MemoryObjectStore):
        async def put(self, key: str, content: io.BytesIO, size_bytes: int) -> None:
            await super().put(key, content, size_bytes)
            raise Unavailable("OBJECT_STORE_UNAVAILABLE", "lost")

    store = HalfWay()
    with pytest.raises(Unavailable):
        async with pending_objects(store) as pending:
            await put(pending, "key")
    assert store.objects == {}


async def test_a_store_that_is_away_does_not_hide_the_first_failure() -> None:
    store = MemoryObjectStore()
    with pytest.raises(ValueError, match="first"):
        async with pending_objects(store) as pending:
            await put(pending, "key")
            store.away = True
            raise ValueError("first")


async def test_quiet_removal_leaves_an_orphan_when_the_store_is_away() -> None:
    store = MemoryObjectStore()
    store.objects["key"] = b"x"
    store.away = True
    await remove_quietly(store, "key")
    assert set(store.objects) == {"key"}
    store.away = False
    await remove_quietly(store, "key")
    assert store.objects == {}
