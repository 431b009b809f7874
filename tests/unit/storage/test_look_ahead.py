"""Messages keep their order, one is read before it is asked for, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.storage.look_ahead import LookAhead


class Source:
    """Gives what is put into it; counts how often it was asked."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.asked = 0
        self.cancelled = False

    def put(self, *items: str | Exception | None) -> None:
        for item in items:
            self.queue.put_nowait(item)

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        self.asked += 1
        try:
            item = await self.queue.get()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(item, Exception):
            raise item
        if item is None:
            raise StopAsyncIteration
        return item


@pytest.fixture
async def source() -> Source:
    return Source()


async def turns() -> None:
    """Lets everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_come_in_their_order_and_the_end_stays_the_end(source: Source) -> None:
    source.put("a", "b", "c", None)
    async with LookAhead(source) as ahead:
        assert [item async for item in ahead] == ["a", "b", "c"]
        assert await anext(ahead, "end") == "end"
    assert source.asked == 4


async def test_one_is_read_while_the_caller_works_and_no_more(source: Source) -> None:
    source.put("a", "b", "c", "d")
    async with LookAhead(source) as ahead:
        await turns()
        assert source.asked == 0, "nothing is read before the first is wanted"
        assert await anext(ahead) == "a"
        await turns()
        assert (source.asked, source.queue.qsize()) == (2, 2)


async def test_a_failure_comes_when_it_is_its_turn(source: Source) -> None:
    source.put("a", OSError("gone"))
    async with LookAhead(source) as ahead:
        assert await anext(ahead) == "a"
        await turns()
        with pytest.raises(OSError, match="gone"):
            await anext(ahead)


async def test_a_read_that_nobody_waits_for_is_taken_back(source: Source) -> None:
    source.put("a")
    async with LookAhead(source) as ahead:
        assert await anext(ahead) == "a"
        await turns()
    assert source.cancelled


async def test_a_failure_that_nobody_waits_for_is_forgotten_in_silence(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.put("a", OSError("gone"))
    async with LookAhead(source) as ahead:
        assert await anext(ahead) == "a"
        await turns()
    del ahead
    await turns()
    assert "never retrieved" not in caplog.text


async def test_who_waits_may_be_cancelled(source: Source) -> None:
    async with LookAhead(source) as ahead:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(ahead)
    assert source.cancelled or not source.asked
