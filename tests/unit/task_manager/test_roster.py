"""What trainers last said, and how callers are told of it."""

import asyncio
import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence

import pytest
from dispatch_fakes import FakeTrainer, away
from task_values import NOW

from services.task_manager.domain.placement import ANY_MEMORY, Machine
from services.task_manager.domain.waiting import Trainers
from services.task_manager.roster import VERSION, Roster
from services.task_manager.runners import Runners
from services.task_manager.trainer_port import Capacity
from tunesmith.v1.task_manager_service_pb2 import Runner

READY = Capacity(4, 3, 2e9, 100, VERSION, {"zone": "a"}, 70, "cpu")
OLD = Capacity(2, 2, 1e9, version="99.0.0", device="cpu")


class World:
    """Trainers by address, and a clock that the test moves."""

    def __init__(self, *, by_memory: bool = True, **has: Capacity | Exception) -> None:
        self.now = NOW
        self.trainers = {f"{name}:1": FakeTrainer() for name in has}
        for trainer, capacity in zip(self.trainers.values(), has.values(), strict=True):
            trainer.has = capacity
        self.roster = Roster(self.trainers.__getitem__, list(self.trainers), lambda: self.now, by_memory=by_memory)
        self.tasks: dict[str, Sequence[str]] = {}

    async def by_runner(self) -> Mapping[str, Sequence[str]]:
        return self.tasks

    async def runners(self) -> list[Runner]:
        return list((await Runners(self.roster, self).list()).runners)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - a question is under way
            await asyncio.sleep(0)


async def test_trainers_are_sorted_into_those_that_take_runs_and_the_others() -> None:
    world = World(a=READY, b=OLD, c=away())
    assert await world.roster.ask() == Trainers([Machine("a:1", 4, 3, {"zone": "a"}, 100, 70)], ["c:1"], {"b:1": "99.0.0"})


@pytest.mark.parametrize(
    ("capacity", "total", "free"),
    [
        (Capacity(1, 1, total_memory_bytes=100, free_memory_bytes=70), 100, 70),
        (Capacity(1, 1, total_memory_bytes=100), 100, 100),
        (Capacity(1, 1, total_memory_bytes=100, free_memory_bytes=170), 100, 100),
        (Capacity(1, 1, free_memory_bytes=70), ANY_MEMORY, ANY_MEMORY),
        (Capacity(1, 1, total_memory_bytes=100, free_memory_bytes=70, device="cuda"), ANY_MEMORY, ANY_MEMORY),
    ],
    ids=["both", "from before it was told", "more free than there is", "no total", "gpu"],
)
async def test_memory_counts_where_it_is_known_and_of_the_processor(capacity: Capacity, total: int, free: int) -> None:
    (machine,) = (await World(a=capacity).roster.ask()).machines
    assert (machine.total_memory, machine.free_memory) == (total, free)


async def test_memory_does_not_count_when_it_is_set_so() -> None:
    (machine,) = (await World(by_memory=False, a=READY).roster.ask()).machines
    assert machine == Machine("a:1", 4, 3, {"zone": "a"})


async def test_the_speed_is_that_of_the_slowest_that_takes_runs_and_has_the_labels() -> None:
    slow = Capacity(1, 1, 1.5e9)
    world = World(a=READY, b=OLD, c=slow, d=Capacity(1, 1))
    assert world.roster.flops_per_second({}) == 0.0, "nobody has been asked"
    await world.roster.ask()
    assert world.roster.flops_per_second({}) == 1.5e9
    assert world.roster.flops_per_second({"zone": "a"}) == 2e9
    assert world.roster.flops_per_second({"zone": "b"}) == 0.0


async def test_a_runner_is_told_with_all_it_said() -> None:
    world = World(a=READY)
    world.tasks = {"a:1": ["tasks/1", "tasks/2"]}
    (runner,) = await world.runners()
    assert (runner.name, runner.address, runner.state, runner.state_reason) == ("runners/a:1", "a:1", Runner.READY, "")
    assert (runner.version, dict(runner.labels), runner.device) == (VERSION, {"zone": "a"}, "cpu")
    assert (runner.total_processes, runner.free_processes) == (4, 3)
    assert (runner.total_memory_bytes, runner.free_memory_bytes) == (100, 70)
    assert list(runner.tasks) == ["tasks/1", "tasks/2"]
    assert runner.last_heard_time.ToDatetime(datetime.UTC) == NOW


async def test_how_a_strict_one_is_fenced_is_told_and_kept() -> None:
    strict = dataclasses.replace(READY, fenced_after=datetime.timedelta(seconds=80))
    world = World(a=strict, b=READY)
    runners = await world.runners()
    assert [runner.fenced_after_seconds for runner in runners] == [80, 0]
    machines = (await world.roster.ask()).machines
    assert [machine.fenced_after for machine in machines] == [datetime.timedelta(seconds=80), None]


async def test_one_of_another_version_says_so() -> None:
    (runner,) = await World(b=OLD).runners()
    assert runner.state == Runner.INCOMPATIBLE
    assert runner.state_reason == f"its version 99.0.0 does not fit {VERSION} of the task manager"
    assert runner.total_processes == 2


async def test_a_silent_one_is_as_it_was_when_it_last_answered() -> None:
    world = World(a=READY)
    await world.runners()
    world.now += datetime.timedelta(minutes=1)
    world.trainers["a:1"].has = away()
    (runner,) = await world.runners()
    assert (runner.state, runner.state_reason) == (Runner.SILENT, "it has not answered since 2026-01-02 03:04:05 UTC")
    assert (runner.total_processes, runner.last_heard_time.ToDatetime(datetime.UTC)) == (4, NOW)


async def test_who_swallows_questions_is_waited_for_once_and_asked_beside_the_others() -> None:
    world = World(a=READY, b=away())
    swallows = world.trainers["b:1"]
    assert (await world.roster.ask(patient=False)).silent == ["b:1"]
    swallows.answers.clear()
    for _ in range(3):
        async with asyncio.timeout(10):
            told = await world.roster.ask(patient=False)
        assert ([one.trainer for one in told.machines], told.silent) == (["a:1"], ["b:1"])
        await asyncio.sleep(0)
    assert swallows.asked == 2, "one question at a time"
    swallows.has = READY
    swallows.answers.set()
    await until(world.roster._knocks["b:1"].done)
    swallows.has = dataclasses.replace(READY, free_processes=1)
    told = await world.roster.ask(patient=False)
    assert {one.trainer: one.free for one in told.machines} == {"a:1": 3, "b:1": 1}, "what it says now, not what it said late"
    assert told.silent == []


async def test_who_refuses_at_once_is_asked_again_each_time() -> None:
    world = World(a=away())
    for _ in range(3):
        assert (await world.roster.ask(patient=False)).silent == ["a:1"]
        await until(lambda: all(one.done() for one in world.roster._knocks.values()))
    world.trainers["a:1"].has = READY
    await world.roster.ask(patient=False)
    await until(world.roster._knocks["a:1"].done)
    assert [one.trainer for one in (await world.roster.ask(patient=False)).machines] == ["a:1"]


async def test_who_has_patience_waits_for_a_silent_one() -> None:
    world = World(a=away())
    await world.roster.ask(patient=False)
    world.trainers["a:1"].has = READY
    assert [one.trainer for one in (await world.roster.ask()).machines] == ["a:1"]


async def test_one_that_never_answered_has_no_time() -> None:
    (runner,) = await World(a=away()).runners()
    assert runner.state_reason == "it has not answered since this task manager was started"
    assert not runner.HasField("last_heard_time")
    assert runner.total_processes == 0


async def test_one_that_only_a_claim_names_is_listed_in_its_place() -> None:
    world = World(c=READY, a=READY)
    world.tasks = {"b:1": ["tasks/1"]}
    runners = await world.runners()
    assert [runner.address for runner in runners] == ["a:1", "b:1", "c:1"]
    assert (runners[1].state, list(runners[1].tasks)) == (Runner.SILENT, ["tasks/1"])
    assert "not set to ask it" in runners[1].state_reason
