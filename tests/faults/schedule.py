"""A seeded schedule: callers, readers and faults at random, then everything heals, comes to rest and is judged."""

import asyncio
import contextlib
import dataclasses
import pathlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from services.common.postgres import Pool, open_pool
from services.trainer import processes
from tests.faults.callers import Callers
from tests.faults.evidence import Evidence, gather
from tests.faults.proxy import Mood
from tests.faults.readers import Readers
from tests.faults.verdict import judge, overlaps
from tests.faults.world import World, deadline, world_of

REST_SECONDS = 60.0
LEAST_TASKS = 5
_FENCE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Played:
    """What came of a schedule."""

    broken: Sequence[str]
    """Every broken promise; empty when all were kept."""
    tally: Mapping[str, int]
    """How much really happened, by kind."""
    evidence: Evidence
    """What was judged."""
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What was measured, with its unit; of several seeds the largest counts."""


async def play(
    dsn: str, directory: pathlib.Path, seed: int, *, seconds: float, planted: str = "", strict: bool = False
) -> Played:
    """One seed; `planted`: a mistake of `planted.BUGS` that both task managers make; `strict`: trainers are."""
    module = "tests.faults.planted_manager" if planted else "services.task_manager"
    # Runs take seconds then, so that some are under way when their trainer goes away.
    module, fence, pace = ("tests.faults.strict_manager", _FENCE_SECONDS, 0.8) if strict else (module, 0.0, 0.02)
    environments = [{"TUNESMITH_TEST_PLANTED": planted}] * 2
    async with world_of(dsn, directory, module=module, environments=environments, fence=fence, pace=pace) as world:
        chance, tally = random.Random(seed), Counter[str]()
        callers, readers = Callers(world.managers, random.Random(seed + 1)), Readers(world, random.Random(seed + 2))
        troubles = _faults(world, chance, tally, _STRICT if strict else _RELAXED)
        async with background(readers.read(callers.names), readers.read(callers.names), troubles):
            until = deadline(seconds)
            # On a busy machine a call takes long, and a world in which little happens shows little.
            while deadline(0) < until or len(callers.told.created) < LEAST_TASKS:
                await callers.anything()
                await asyncio.sleep(callers.pause_between())
        world.heal()
        return await settle(dsn, world, callers, readers, tally, strict=strict)


async def settle(
    dsn: str, world: World, callers: Callers, readers: Readers, tally: Counter[str], *, strict: bool = False
) -> Played:
    """Waits for rest and judges."""
    await callers.rest(REST_SECONDS)
    broken = await readers.violations([name for name in callers.names if name.removeprefix("tasks/") not in callers.told.deleted])
    async with open_pool(dsn, application="verdict") as pool:
        until = deadline(REST_SECONDS / 2)
        while _are_left(world) and deadline(0) < until:  # noqa: ASYNC110 - processes end
            await asyncio.sleep(0.1)
        evidence = await gather(pool, world.roots())
        tally["given elsewhere"] = await _given_elsewhere(pool)
    broken += [str(finding) for finding in judge(evidence, callers.told)]
    if strict:
        broken += [str(finding) for finding in overlaps(evidence)]
    tally.update(f"ended {task.state.value}" for task in evidence.tasks)
    tally["runs"] = len(evidence.runs)
    tally["calls"], tally["refusals"] = callers.calls, len(callers.refusals)
    tally["connections of readers"], tally["messages"] = readers.connections, readers.messages
    return Played(broken, tally, evidence)


async def _given_elsewhere(pool: Pool) -> int:
    """Attempts that were given up because a strict trainer had been silent for too long."""
    query = "SELECT count(*) AS count FROM task_manager.task_transition WHERE reason LIKE '%has been silent for%'"
    async with pool.connection() as connection:
        [row] = await (await connection.execute(query)).fetchall()
    return int(row["count"])


def _are_left(world: World) -> bool:
    """Runs of trainers that no task wants any more are ended a little later than their tasks."""
    return any(map(_has_processes, world.roots()))


def _has_processes(root: pathlib.Path) -> bool:
    return root.exists() and any(processes.of_run(path, None) for path in root.iterdir())


@contextlib.asynccontextmanager
async def background(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Ends it with the block; its errors are raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]  # type: ignore[arg-type]
        yield
        for task in tasks:
            task.cancel()


# ---- faults

Fault = Callable[[World, random.Random], Awaitable[None]]


async def _faults(world: World, chance: random.Random, tally: Counter[str], kinds: Sequence[Fault]) -> None:
    """One after the other, without end."""
    while True:
        await asyncio.sleep(chance.uniform(0.1, 0.5))
        kind = chance.choice(kinds)
        tally[kind.__name__.strip("_").replace("_", " ")] += 1
        await kind(world, chance)


async def _kill_manager(world: World, chance: random.Random) -> None:
    manager = chance.choice(world.managers)
    manager.send(chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
    await manager.ended()
    await asyncio.sleep(chance.choice((0.0, 0.5)))
    world.start(manager)


async def _stop_manager(world: World, chance: random.Random) -> None:
    """Longer than its lease, so that the other takes over; it goes on believing what it believed."""
    manager = chance.choice(world.managers)
    manager.send(signal.SIGSTOP)
    await asyncio.sleep(chance.uniform(0.5, 2.5))
    manager.send(signal.SIGCONT)


async def _postgres_away(world: World, chance: random.Random) -> None:
    wires = [manager.postgres for manager in world.managers]
    for wire in wires:
        wire.set(chance.choice((Mood.REFUSE, Mood.SWALLOW)))
    await asyncio.sleep(chance.uniform(0.5, 3.0))
    for wire in wires:
        wire.set(Mood.PASS)
        if chance.random() < 0.5:
            wire.cut()


async def _postgres_gone_for_one(world: World, chance: random.Random) -> None:
    wire = chance.choice(world.managers).postgres
    wire.set(chance.choice((Mood.SWALLOW, Mood.REFUSE, Mood.HALF_CLOSE)))
    await asyncio.sleep(chance.uniform(0.5, 2.5))
    wire.set(Mood.PASS)
    wire.cut()


async def _cut(world: World, chance: random.Random) -> None:
    wire = chance.choice([*world.wires, *(manager.postgres for manager in world.managers)])
    wire.cut()


async def _slow(world: World, chance: random.Random) -> None:
    wire = chance.choice([*world.wires, *(manager.postgres for manager in world.managers)])
    wire.delay = chance.uniform(0.01, 0.2)
    await asyncio.sleep(chance.uniform(0.2, 1.0))
    wire.delay = 0.0


async def _trainer_away(world: World, chance: random.Random) -> None:
    wire = chance.choice(world.wires)
    wire.set(chance.choice((Mood.REFUSE, Mood.SWALLOW, Mood.HALF_CLOSE)))
    await asyncio.sleep(chance.uniform(0.3, 2.0))
    wire.set(Mood.PASS)
    if chance.random() < 0.5:
        wire.cut()


async def _storage_away(world: World, chance: random.Random) -> None:
    """Tasks cannot be created meanwhile; what was acknowledged goes on."""
    world.storage_wire.set(Mood.REFUSE)
    await asyncio.sleep(chance.uniform(0.3, 1.5))
    world.storage_wire.set(Mood.PASS)


async def _kill_trainer(world: World, chance: random.Random) -> None:
    trainer = chance.choice(world.trainers)
    await trainer.end(signal.SIGKILL)
    await asyncio.sleep(chance.choice((0.0, 0.5)))
    trainer.launch()


async def _kill_worker(world: World, chance: random.Random) -> None:
    paths = [path for root in world.roots() for path in root.iterdir() if not path.name.startswith(".")]
    if paths and (pids := processes.of_run(chance.choice(paths), None)):
        processes.kill({chance.choice(sorted(pids))})


async def _trainer_away_for_long(world: World, chance: random.Random) -> None:
    """One that has runs, longer than it takes to give them to another; what is swallowed is only noticed after 40 s."""
    if busy := [wire for wire, root in zip(world.wires, world.roots(), strict=True) if _has_processes(root)]:
        wire = chance.choice(busy)
        wire.set(Mood.REFUSE)
        await asyncio.sleep(chance.uniform(6.0, 9.0))
        wire.set(Mood.PASS)


_RELAXED: Sequence[Fault] = (
    _kill_manager,
    _stop_manager,
    _postgres_away,
    _postgres_gone_for_one,
    _cut,
    _slow,
    _trainer_away,
    _kill_trainer,
    _kill_worker,
    _storage_away,
)
_STRICT: Sequence[Fault] = (
    _kill_manager,
    _stop_manager,
    _postgres_away,
    _postgres_gone_for_one,
    _cut,
    _kill_trainer,
    *[_trainer_away_for_long] * 3,
)
