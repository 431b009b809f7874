"""What is due is removed when nobody needs it; what cannot be removed now is looked at again."""

import asyncio
import datetime
import uuid

import pytest
from unit.storage.fake_processes import FakeTasks
from unit.storage.fakes import MemoryObjectStore, memory_repositories
from unit.storage.memory_tables import Clock
from unit.storage.repository_suite import add_dataset, dataset_draft

from services.common.errors import NotFound, Unavailable
from services.storage.dataset_deletion import DatasetDeletion
from services.storage.dataset_expiry import DatasetExpiry
from services.storage.registration import Repositories

HOUR = datetime.timedelta(hours=1)


@pytest.fixture
def repositories(clock: Clock) -> Repositories:
    return memory_repositories(clock)


@pytest.fixture
def tasks() -> FakeTasks:
    return FakeTasks()


@pytest.fixture
def expiry(repositories: Repositories, tasks: FakeTasks) -> DatasetExpiry:
    deletion = DatasetDeletion(repositories.datasets, repositories.pending, MemoryObjectStore(), tasks, uuid.uuid4)
    return DatasetExpiry(repositories.datasets, deletion, limit=10)


async def left(repositories: Repositories) -> list[int]:
    return sorted(dataset.id.int for dataset in await repositories.datasets.page(10, None))


async def test_only_what_is_due_is_removed(repositories: Repositories, clock: Clock, expiry: DatasetExpiry) -> None:
    for number, lifetime in enumerate((None, HOUR, 3 * HOUR), start=1):
        await add_dataset(repositories, dataset_draft(number, lifetime=lifetime))
    assert await expiry.remove_due() == 0
    clock.time += 2 * HOUR
    assert await expiry.remove_due() == 1
    assert await left(repositories) == [1, 3]
    clock.time += 2 * HOUR
    assert await expiry.remove_due() == 1
    assert await left(repositories) == [1]


async def test_what_a_live_task_needs_waits_for_it(
    repositories: Repositories, clock: Clock, expiry: DatasetExpiry, tasks: FakeTasks
) -> None:
    needed, _ = [await add_dataset(repositories, dataset_draft(number, lifetime=HOUR)) for number in (1, 2)]
    tasks.tasks[needed.name] = ["tasks/1"]
    clock.time += 2 * HOUR
    assert await expiry.remove_due() == 1
    assert await repositories.datasets.get(needed.id) == needed
    tasks.tasks.clear()
    assert await expiry.remove_due() == 1
    with pytest.raises(NotFound):
        await repositories.datasets.get(needed.id)


async def test_while_nobody_can_be_asked_nothing_is_removed(
    repositories: Repositories, clock: Clock, expiry: DatasetExpiry, tasks: FakeTasks
) -> None:
    await add_dataset(repositories, dataset_draft(1, lifetime=HOUR))
    clock.time += 2 * HOUR
    tasks.error = Unavailable("TASK_MANAGER_UNAVAILABLE", "gone")
    assert await expiry.remove_due() == 0
    assert await left(repositories) == [1]
    tasks.error = None
    assert await expiry.remove_due() == 1


async def test_a_database_that_is_away_does_not_end_the_loop(
    repositories: Repositories, expiry: DatasetExpiry, monkeypatch
) -> None:
    asked = asyncio.Queue()

    async def away(limit: int) -> list[uuid.UUID]:
        asked.put_nowait(limit)
        raise Unavailable("POSTGRES_UNAVAILABLE", "gone")

    monkeypatch.setattr(repositories.datasets, "expired", away)
    running = asyncio.create_task(expiry.run(datetime.timedelta(milliseconds=1)))
    try:
        async with asyncio.timeout(10):
            assert [await asked.get() for _ in range(3)] == [10, 10, 10]
    finally:
        running.cancel()
