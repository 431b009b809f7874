"""kill -9 of a task manager at every failpoint it has, one after the other while the work goes on; then the verdict."""

import asyncio
import pathlib
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from services.common.failpoints import EXIT_CODE, POINTS
from tests.faults.callers import Callers
from tests.faults.fake_worker import DIES_ONCE, FAILS
from tests.faults.proxy import Mood
from tests.faults.readers import Readers
from tests.faults.schedule import background, settle
from tests.faults.world import Manager, World, deadline, world_of
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration

ELSEWHERE = ("spawn", "kill", "upload", "object.put", "artifacts.add")
"""Those of the trainer and of storage; test_trainer_crashes.py and the tests of storage meet them."""
MINE = [name for name in POINTS if not name.startswith(ELSEWHERE)]
ENDED = (task_pb2.Task.SUCCEEDED, task_pb2.Task.FAILED, task_pb2.Task.CANCELLED)
Provoke = Callable[[World, Callers, Manager], Awaitable[None]]


async def create(world: World, callers: Callers, manager: Manager) -> None:
    await until(callers, await callers.create(0, max_steps=2, num_processes=1), task_pb2.Task.SUCCEEDED)


async def cancel(world: World, callers: Callers, manager: Manager) -> None:
    name = await callers.create(0, max_steps=60, num_processes=1)
    await until(callers, name, task_pb2.Task.RUNNING)
    await callers.cancel(name)
    await asyncio.sleep(0.1)


async def pause(world: World, callers: Callers, manager: Manager) -> None:
    name = await callers.create(0, max_steps=60, num_processes=1)
    await until(callers, name, task_pb2.Task.RUNNING)
    await callers.pause(name)


async def ended_badly(callers: Callers) -> str:
    name = await callers.create(FAILS, max_steps=2, num_processes=1)
    await until(callers, name, task_pb2.Task.FAILED)
    return name


async def delete(world: World, callers: Callers, manager: Manager) -> None:
    await callers.delete(await ended_badly(callers))


async def retry(world: World, callers: Callers, manager: Manager) -> None:
    await callers.retry(await ended_badly(callers))


async def lose(world: World, callers: Callers, manager: Manager) -> None:
    await until(callers, await callers.create(DIES_ONCE, max_steps=2, num_processes=1), task_pb2.Task.SUCCEEDED)


async def explain(world: World, callers: Callers, manager: Manager) -> None:
    name = await callers.create(0, max_steps=60, num_processes=1)
    await until(callers, name, task_pb2.Task.RUNNING)
    for wire in world.wires:
        wire.set(Mood.REFUSE)
    try:
        await asyncio.sleep(0.5)
    finally:
        for wire in world.wires:
            wire.set(Mood.PASS)


async def terminate(world: World, callers: Callers, manager: Manager) -> None:
    # A task that has run shows that signals are listened to and that there are leases to give up.
    await create(world, callers, manager)
    manager.send(signal.SIGTERM)
    await asyncio.sleep(30)


PROVOKE: dict[str, Provoke] = {
    "tasks.cancel": cancel,
    "tasks.ask": pause,
    "tasks.delete": delete,
    "tasks.retry": retry,
    "cancel_run": cancel,
    "claims.lose": lose,
    "claims.explain": explain,
    "claims.release": terminate,
}
"""What makes the task manager come by; where nothing is said, a task does."""


async def until(callers: Callers, name: str, state: int) -> None:
    """Until the task is there, or has ended."""
    limit = deadline(30)
    while True:
        task = await callers.get(name)
        if task is None or task.state in (state, *ENDED):
            return
        assert deadline(0) < limit, f"{name} never becomes {task_pb2.Task.State.Name(state)}"
        await asyncio.sleep(0.02)


async def crash_at_each(world: World, callers: Callers, manager: Manager, names: list[str]) -> None:
    """The process starts with one failpoint after the other, and dies at each."""
    for name in names:
        world.start(manager, f"{name}=exit")
        provoking = asyncio.create_task(_again_and_again(PROVOKE.get(name.rpartition(".")[0], create), world, callers, manager))
        dying = asyncio.create_task(manager.ended())
        # A caller may wait for both task managers at once, so nothing here waits for a caller.
        await asyncio.wait({provoking, dying}, return_when=asyncio.FIRST_COMPLETED)
        if provoking.done():
            await provoking
        provoking.cancel()
        try:
            code = await dying
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} is never reached") from None
        finally:
            await asyncio.gather(provoking, return_exceptions=True)
        assert code == EXIT_CODE, f"{name}: {manager.log()[-1000:]}"


async def _again_and_again(provoke: Provoke, world: World, callers: Callers, manager: Manager) -> None:
    while True:
        await provoke(world, callers, manager)


async def test_a_crash_at_any_failpoint_breaks_no_promise(postgres_dsn: str, tmp_path: pathlib.Path) -> None:
    async with world_of(postgres_dsn, tmp_path, pace=0.01) as world:
        chance = random.Random(0)
        callers = Callers(world.managers, chance)
        readers = Readers(world, chance)
        for manager in world.managers:
            manager.send(signal.SIGKILL)
            await manager.ended()
        async with background(readers.read(callers.names)), asyncio.TaskGroup() as group:
            for number, manager in enumerate(world.managers):
                own = Callers([manager], random.Random(number), callers)
                group.create_task(crash_at_each(world, own, manager, MINE[number::2]))
        world.heal()
        played = await settle(postgres_dsn, world, callers, readers, Counter())
    assert played.broken == []
