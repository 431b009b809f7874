"""Several task managers, each a process of its own, on one database: they share the work and take over from each other."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

import pytest
from integration.task_manager.fake_peers import FakeTrainer
from integration.task_manager.manager_harness import Platform, eventually, make_settings, manager_process, whole_stream

from services.common.postgres import Pool
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration


@contextlib.asynccontextmanager
async def two_managers(
    dsn: str, storage: str, trainers: list[FakeTrainer]
) -> AsyncIterator[list[tuple[Platform, asyncio.subprocess.Process]]]:
    """Processes with a client for each."""
    addresses = tuple(trainer.address for trainer in trainers)
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for _ in range(2):
            settings = make_settings(dsn, storage, addresses)
            process = await stack.enter_async_context(manager_process(dsn, storage, ",".join(addresses), settings.listen))
            manager = Platform(settings, trainers[0])
            stack.push_async_callback(manager.channel.close)
            found.append((manager, process))
        yield found


async def owners(pool: Pool) -> dict[str, uuid.UUID]:
    """Owner by name of each task that is active and has one."""
    async with pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT t.id, h.owner FROM task_manager.task t JOIN task_manager.event_head h ON h.task_id = t.id"
            " WHERE h.owner IS NOT NULL AND h.lease_expire_time > now() AND t.state IN ('STARTING', 'RUNNING')"
        )
        return {f"tasks/{row['id']}": row["owner"] for row in await cursor.fetchall()}


async def test_two_share_the_work_and_when_one_is_killed_the_other_has_all_of_it(
    postgres_dsn: str, storage_address: str, trainer: FakeTrainer, pool: Pool
) -> None:
    """The lease is 2 seconds; nothing is lost, doubled or begun anew."""
    other = FakeTrainer()
    await other.start()
    trainers = [trainer, other]
    for one in trainers:
        one.total_processes = 64
    async with two_managers(postgres_dsn, storage_address, trainers) as ((killed, process), (heir, _)):
        tasks: list[task_pb2.Task] = []

        async def shared() -> dict[str, uuid.UUID] | None:
            tasks.extend([await killed.create(), await heir.create()])
            found = await owners(pool)
            return found if len(set(found.values())) == 2 else None

        await eventually(shared, "both own tasks")

        async def all_owned() -> dict[str, uuid.UUID] | None:
            found = await owners(pool)
            return found if found.keys() == {task.name for task in tasks} else None

        before = await eventually(all_owned, "each task has an owner")
        process.kill()
        await process.wait()

        async def inherited() -> dict[str, uuid.UUID] | None:
            found = await all_owned()
            return found if found and len(set(found.values())) == 1 else None

        after = await eventually(inherited, "the other owns everything")
        assert set(after.values()) < set(before.values()), "nobody new came"
        await end_all(trainers, len(tasks))
        for task in tasks:
            await whole_stream(heir, task.name)
            done = await heir.get(task.name)
            assert (done.state, done.attempt, done.epoch) == (task_pb2.Task.SUCCEEDED, 1, 1)
    await other.close()


async def end_all(trainers: list[FakeTrainer], count: int) -> None:
    """Every run trains and succeeds; there is one for each task, on one trainer."""

    async def all_started() -> bool | None:
        return sum(len(one.runs) for one in trainers) == count or None

    await eventually(all_started, "each task has its run")
    for one in trainers:
        for run in one.runs.values():
            await run.succeed(2)


async def test_two_never_promise_a_trainer_more_than_it_has(
    postgres_dsn: str, storage_address: str, trainer: FakeTrainer, pool: Pool
) -> None:
    trainer.script = lambda run: run.succeed(2)
    trainer.total_processes = 2
    busiest = 0
    async with two_managers(postgres_dsn, storage_address, [trainer]) as ((first, _), (second, _)):
        created = await asyncio.gather(
            *(manager.create(num_processes=1 + n % 2) for n in range(6) for manager in (first, second))
        )

        async def all_ended() -> bool | None:
            nonlocal busiest
            async with pool.connection() as connection:
                cursor = await connection.execute(
                    "SELECT coalesce(sum(processes) FILTER (WHERE state IN ('STARTING', 'RUNNING')), 0) AS taken,"
                    " count(*) FILTER (WHERE state = 'SUCCEEDED') AS ended FROM task_manager.task"
                )
                row = await cursor.fetchone()
            assert row
            busiest = max(busiest, row["taken"])
            return row["ended"] == len(created) or None

        await eventually(all_ended, "every task ends")
        for task in created:
            assert (await second.get(task.name)).attempt == 1, "nobody was sent away for want of room"
    assert 0 < busiest <= 2
