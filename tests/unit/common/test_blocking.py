"""Work in threads is waited for, also when the caller is cancelled."""

import asyncio
import threading

import pytest

from services.common.blocking import in_thread


async def test_result_and_failure_come_through() -> None:
    assert await in_thread(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_a_cancelled_caller_leaves_only_after_the_thread() -> None:
    started, release, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait()
        done.set()

    caller = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(started.wait)
    caller.cancel()
    await asyncio.wait([caller], timeout=0.05)
    left_early = caller.done()
    release.set()
    assert not left_early
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done.is_set()


async def test_a_caller_that_is_cancelled_twice_waits_all_the_same() -> None:
    started, release, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        release.wait(20)
        done.set()

    caller = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(started.wait)
    for _ in range(2):
        caller.cancel()
        await asyncio.wait([caller], timeout=0.05)
        assert not caller.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done.is_set()
