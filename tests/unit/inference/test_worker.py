"""One thread, in the order asked, and nobody waits for work that nobody wants."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import structlog
import structlog.testing

from services.inference.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker("test") as worker:
        yield worker


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


async def test_posted_work_is_done_before_what_is_asked_for_later(worker: Worker) -> None:
    done: list[int] = []
    for number in range(3):
        worker.post(lambda number=number: done.append(number))
    await worker.run(lambda: done.append(3))
    assert done == [0, 1, 2, 3]


async def test_posted_work_that_fails_is_logged_and_the_thread_goes_on(worker: Worker) -> None:
    def broken() -> None:
        raise LookupError("broken")

    with structlog.testing.capture_logs() as logs:
        worker.post(broken)
        assert await worker.run(lambda: 5) == 5
    assert [entry["event"] for entry in logs] == ["worker.failed"]


async def test_work_posted_after_the_end_is_dropped() -> None:
    with Worker("test") as worker:
        pass
    worker.post(lambda: pytest.fail("it ran"))


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
