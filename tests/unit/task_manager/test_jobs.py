"""Jobs inside a task group: those that should run do, and none is left behind when the group ends."""

import asyncio
import functools
import gc
import warnings

import pytest

from services.task_manager.jobs import Jobs


async def forever() -> None:
    await asyncio.Event().wait()


async def test_what_is_wanted_runs_once_and_what_is_not_is_cancelled() -> None:
    begun = {name: asyncio.Event() for name in ("a", "b", "c")}

    async def job(name: str) -> None:
        assert not begun[name].is_set(), "once"
        begun[name].set()
        await forever()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        jobs = Jobs(group)
        starts = {name: functools.partial(job, name) for name in begun}
        jobs.reconcile({name: starts[name] for name in ("a", "b")})
        await begun["b"].wait()
        unwanted = next(each for each in asyncio.all_tasks() if each.get_name() == "a")
        jobs.reconcile({name: starts[name] for name in ("b", "c")})
        await asyncio.wait([unwanted])
        await begun["c"].wait()
        assert [name in jobs for name in begun] == [False, True, True]
        jobs.reconcile({})


async def test_a_job_that_a_group_refuses_because_it_ends_is_closed() -> None:
    refused = asyncio.Event()

    async def late(jobs: Jobs) -> None:
        try:
            await forever()
        finally:
            try:
                jobs.start("late", forever)
            except asyncio.CancelledError:
                refused.set()

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(late(Jobs(group)))
            await forever()

    running = asyncio.create_task(run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(asyncio.CancelledError):
            await running
        gc.collect()
    assert refused.is_set()
