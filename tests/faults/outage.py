"""A database and an object store that are away for a literal minute, while everything has the settings it has by default.

The schedules of `schedule` scale such an outage to seconds, with leases and limits in proportion. Here nothing is scaled: one
after the other or both at once are cut off for 60 s, with runs under way, callers, readers, and uploads that are tried again.
"""

import asyncio
import dataclasses
import datetime
import pathlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import psycopg

from services.task_manager.domain.task import State
from tests.faults.callers import Callers
from tests.faults.evidence import Evidence, TaskEvidence
from tests.faults.fake_worker import DIES_ONCE, FAILS, FAILS_ONCE
from tests.faults.proxy import Mood, Proxy
from tests.faults.readers import Readers
from tests.faults.schedule import Played, background, settle
from tests.faults.stores import Stores, stores_of
from tests.faults.world import World, deadline, world_of
from tunesmith.v1 import task_manager_service_pb2 as api

_PACE_SECONDS = 2.0
"""A step takes so long, so that runs are under way for the whole of an outage."""
_CALM_SECONDS = 15.0
_PAUSE = (0.5, 2.0)
_BOTH = 3
"""Under every third seed both are away at once."""


@dataclasses.dataclass
class _Outage:
    """What happens to whom, and what was measured."""

    world: World
    stores: Stores
    chance: random.Random
    figures: dict[str, float] = dataclasses.field(default_factory=dict)

    def wires_of(self, what: str) -> list[Proxy]:
        return {
            "database": [*(manager.postgres for manager in self.world.managers), self.stores.postgres],
            "object store": [self.stores.s3],
        }[what]

    async def away(self, whats: Sequence[str], seconds: float) -> None:
        """All of these for so long, refusing or swallowing; then how long it takes until everybody answers again."""
        wires = [wire for what in whats for wire in self.wires_of(what)]
        for wire in wires:
            wire.set(self.chance.choice((Mood.REFUSE, Mood.SWALLOW)))
        await asyncio.sleep(seconds)
        for wire in wires:
            wire.set(Mood.PASS)
        healed = deadline(0)
        if "database" in whats:
            await asyncio.gather(*(self._answers(number) for number in range(len(self.world.managers))))
            self._note("task managers answer after the database, s", deadline(0) - healed)
        while not all([await self.stores.read(name) for name in [*self.stores.stored][-3:]]):
            assert deadline(0) - healed < 60, "storage does not come back"
        self._note(f"storage reads after the {' and the '.join(whats)}, s", deadline(0) - healed)

    async def _answers(self, number: int) -> None:
        until = deadline(60)
        while True:
            try:
                await self.world.managers[number].stub.ListTasks(api.ListTasksRequest(page_size=1), timeout=1)
                return
            except Exception:
                if deadline(0) > until:
                    raise
                await asyncio.sleep(0.05)

    def _note(self, name: str, value: float) -> None:
        self.figures[name] = max(value, self.figures.get(name, 0.0))


async def play_outage(dsn: str, directory: pathlib.Path, seed: int, *, seconds: float = 60.0) -> Played:
    """One seed; both stores are away for `seconds`."""
    chance, tally, over = random.Random(seed), Counter[str](), asyncio.Event()
    async with (
        world_of(dsn, directory, settings={}, pace=_PACE_SECONDS) as world,
        stores_of(dsn, directory, random.Random(seed + 3)) as stores,
    ):
        callers = Callers(world.managers, random.Random(seed + 1), patience=seconds + 60)
        readers, outage = Readers(world, random.Random(seed + 2)), _Outage(world, stores, chance)
        using = asyncio.create_task(stores.use(over))
        async with background(readers.read(callers.names), readers.read(callers.names), _ask(callers, chance)):
            await asyncio.sleep(_CALM_SECONDS)
            for whats in _order(seed, chance):
                tally[f"{' and '.join(whats)} away"] += 1
                await outage.away(whats, seconds)
                await asyncio.sleep(_CALM_SECONDS)
        over.set()
        await using
        played = await settle(dsn, world, callers, readers, tally)
        broken = [*played.broken, *_for_nothing(played.evidence, callers), *await stores.verdict(60)]
        tally["stored"] = len(stores.stored)
        tally.update({f"storage said {reason}": count for reason, count in stores.refusals.items()})
        tally["runs lost, as they were told to be"] = sum(map(_losses, played.evidence.tasks))
    outage.figures["slowest refusal of storage, s"] = stores.slowest_refusal
    return dataclasses.replace(played, broken=broken, figures=outage.figures | await _paused(dsn))


def _order(seed: int, chance: random.Random) -> list[tuple[str, ...]]:
    if seed % _BOTH == 0:
        return [("database", "object store")]
    return chance.sample([("database",), ("object store",)], 2)


async def _ask(callers: Callers, chance: random.Random) -> None:
    while True:
        await callers.anything()
        await asyncio.sleep(chance.uniform(*_PAUSE))


def _for_nothing(evidence: Evidence, callers: Callers) -> Iterator[str]:
    """An outage is no reason for a task to fail or for a run to be lost: only those have been whose runs were told to."""
    for task in evidence.tasks:
        manner = callers.manners[task.id]
        if task.state is State.FAILED and not manner & FAILS:
            yield f"failed {task.id}: an outage has ended it"
        if _losses(task) > bool(manner & (FAILS_ONCE | DIES_ONCE)):
            yield f"failed {task.id}: an outage has cost it a run"


def _losses(task: TaskEvidence) -> int:
    return sum(move.after is State.QUEUED and move.before in (State.STARTING, State.RUNNING) for move in task.moves)


async def _paused(dsn: str) -> dict[str, float]:
    """The longest time in which no task has changed its state: the outage and what it takes to go on."""
    query = "SELECT max(gap) FROM (SELECT time - lag(time) OVER (ORDER BY time) AS gap FROM task_manager.task_transition) AS gaps"
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute(query)).fetchone()
    longest = row[0] if row else None
    return {"nothing moved for, s": longest.total_seconds() if isinstance(longest, datetime.timedelta) else 0.0}
