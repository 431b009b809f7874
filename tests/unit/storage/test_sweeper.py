"""The sweeper between decision and bytes."""

import asyncio
import datetime

import pytest
from structlog.testing import capture_logs
from unit.storage.artifact_suite import until
from unit.storage.fake_processes import FakeTasks
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
    made = await keys(repositories, "one")
    store.objects = dict.fromkeys(made.values(), b"x")
    await repositories.artifacts.add(artifact_draft(), made)
    clock.time += 16 * DAY
    await Sweeper(repositories.sweeps, repositories.pending, store, limit=9).sweep(dry_run=False)
    clock.time += 4 * DAY
    return store


async def test_a_store_that_goes_away_half_way_is_made_up_for(repositories: Repositories, doomed: Fragile) -> None:
    sweeper = Sweeper(repositories.sweeps, repositories.pending, doomed, limit=9)
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
    again, _ = await Sweeper(repositories.sweeps, repositories.pending, doomed, limit=9).sweep(dry_run=False)
    assert again.objects == sweep.objects
    assert not (await Sweeper(repositories.sweeps, repositories.pending, doomed, limit=9).sweep(dry_run=False))[0].objects


async def test_switched_to_dry_run_it_never_changes_anything(repositories: Repositories, doomed: Fragile, tables: Tables) -> None:
    before = tables.snapshot()
    sweep, dry_run = await Sweeper(repositories.sweeps, repositories.pending, doomed, limit=9, dry_run=True).sweep(dry_run=False)
    assert (len(sweep.deleted), dry_run, len(doomed.objects)) == (1, True, 2)
    assert tables.snapshot() == before


async def test_switched_to_dry_run_it_still_keeps_what_live_tasks_need(repositories: Repositories, clock: Clock) -> None:
    stored = await repositories.artifacts.add(artifact_draft(), await keys(repositories, "one"))
    tasks = FakeTasks()
    tasks.origins.add(stored.id)
    sweeper = Sweeper(repositories.sweeps, repositories.pending, MemoryObjectStore(), limit=9, dry_run=True, tasks=tasks)
    clock.time += 16 * DAY
    sweep, dry_run = await sweeper.sweep(dry_run=False)
    assert (sweep.expired, dry_run) == ((), True)
    assert (await repositories.artifacts.get(stored.id)).state == "AVAILABLE"


async def test_the_loop_survives_failures_and_goes_on(repositories: Repositories, doomed: Fragile) -> None:
    doomed.away = True
    with capture_logs() as logs:
        sweeper = Sweeper(repositories.sweeps, repositories.pending, doomed, limit=9)
        loop = asyncio.create_task(sweeper.run(datetime.timedelta(milliseconds=1)))

        async def logged(event: str) -> bool:
            return any(entry["event"] == event for entry in logs)

        await until(lambda: logged("sweep.failed"))
        doomed.away = False
        await until(lambda: logged("sweep.done"))
        loop.cancel()
        await asyncio.wait([loop])
    assert doomed.objects == {}


async def test_what_ends_and_what_will_is_told_in_the_log(repositories: Repositories, clock: Clock) -> None:
    await repositories.artifacts.add(artifact_draft(), await keys(repositories, "one"))
    sweeper = Sweeper(repositories.sweeps, repositories.pending, MemoryObjectStore(), limit=9)
    with capture_logs() as logs:
        for step in (8.5, 7, 3.1):
            clock.time += step * DAY
            await sweeper.sweep(dry_run=False)
    told = [(entry["event"], entry.get("days")) for entry in logs]
    assert told == [("artifact.expiring", 7), ("artifact.expired", None), ("artifact.deleted", None)]
