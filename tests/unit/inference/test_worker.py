"""One thread, in the order asked, and nobody waits for work that nobody wants."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from services.inference.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker("test") as worker:
        yield worker


async def collected(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


async def test_work_is_done_in_order_and_in_one_thread(worker: Worker) -> None:
    done: list[int] = []
    threads: set[int] = set()

    def work(number: int) -> None:
        done.append(number)
        threads.add(threading.get_ident())

    await asyncio.gather(*(worker.run(lambda number=number: work(number)) for number in range(20)))
    assert done == list(range(20))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_items_arrive_in_order_and_all_of_them(worker: Worker) -> None:
    assert await collected(worker.iterate(lambda: iter(range(1000)), threading.Event())) == list(range(1000))


async def test_items_arrive_while_the_work_goes_on(worker: Worker) -> None:
    seen = threading.Event()

    def work() -> Iterator[int]:
        yield 1
        assert seen.wait(10)
        yield 2

    items = []
    async for item in worker.iterate(work, threading.Event()):
        items.append(item)
        seen.set()
    assert items == [1, 2]


async def test_a_failure_comes_after_the_items_before_it(worker: Worker) -> None:
    def work() -> Iterator[int]:
        yield 1
        raise LookupError("broken")

    items: list[int] = []
    with pytest.raises(LookupError, match="broken"):
        async for item in worker.iterate(work, threading.Event()):
            items.append(item)
    assert items == [1]


async def test_leaving_early_tells_the_work_to_end(worker: Worker) -> None:
    cancelled = threading.Event()

    def work() -> Iterator[int]:
        while not cancelled.wait(0.001):
            yield 1

    async def first() -> None:
        async for _ in worker.iterate(work, cancelled):
            await asyncio.sleep(3600)

    task = asyncio.create_task(first())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The one thread is free again.
    assert await asyncio.wait_for(worker.run(lambda: 5), 10) == 5


async def test_work_that_waits_for_its_turn_is_dropped_with_its_caller(worker: Worker) -> None:
    release, ran = threading.Event(), []
    busy = asyncio.create_task(worker.run(lambda: release.wait(10)))
    waiting = asyncio.create_task(worker.run(lambda: ran.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    await busy
    await worker.run(lambda: None)
    assert ran == []


async def test_the_log_context_of_the_caller_goes_along(worker: Worker) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        assert (await worker.run(structlog.contextvars.get_contextvars))["request_id"] == "r-1"
