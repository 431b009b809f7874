"""Projects take turns, keep to their quotas, and none waits for ever for others."""

import collections
import dataclasses
import random
import uuid
from collections.abc import Sequence

import pytest
from test_schedule import MINUTE, NOW, numbers, running, waiting

from services.task_manager.domain.placement import Machine
from services.task_manager.domain.schedule import Decision, Running, Waiting, decide, forecast, run_of
from services.task_manager.domain.shares import held_by_project, in_fair_order


def of(project: str, number: int, processes: int = 1, age: float = 0, priority: int = 0) -> Waiting:
    return dataclasses.replace(waiting(number, processes, age=age), project=project, priority=priority)


def held(project: str, processes: int = 1, trainer: str = "a") -> Running:
    return dataclasses.replace(running(trainer, processes), project=project)


def order(tasks: Sequence[Waiting], runs: Sequence[Running] = ()) -> list[int]:
    return [task.id.int for task in in_fair_order(tasks, runs)]


# ---- turns


def test_one_project_keeps_the_order_of_the_queue() -> None:
    tasks = [of("", 3, priority=5), of("", 1, age=9), of("", 2, 4)]
    assert order(tasks, [held("", 7)]) == [3, 1, 2]


def test_a_backlog_of_one_project_is_mixed_with_the_tasks_of_others() -> None:
    tasks = [*(of("big", number) for number in range(1, 6)), of("small", 6), of("other", 7)]
    assert order(tasks) == [1, 6, 7, 2, 3, 4, 5]


def test_who_holds_less_is_next_however_young() -> None:
    tasks = [of("a", 1, age=60), of("a", 2, age=60), of("b", 3), of("b", 4)]
    assert order(tasks, [held("a", 2)]) == [3, 4, 1, 2]


def test_processes_count_and_not_tasks() -> None:
    tasks = [of("a", 1, 4), of("a", 2, 4), of("b", 3), of("b", 4), of("b", 5), of("b", 6), of("b", 7)]
    assert order(tasks) == [1, 3, 4, 5, 6, 2, 7]


def test_priority_is_before_shares() -> None:
    tasks = [of("a", 1, priority=1), of("a", 2), of("b", 3)]
    assert order(tasks, [held("a", 9)]) == [1, 3, 2]


def test_every_task_is_there_once() -> None:
    chance = random.Random(1)
    tasks = [of(chance.choice("abc"), number, chance.randint(1, 4), priority=chance.choice((0, 1))) for number in range(200)]
    assert sorted(order(tasks)) == list(range(200))
    for project in "abc":
        mine = [task.id.int for priority in (1, 0) for task in tasks if (task.project, task.priority) == (project, priority)]
        fair = [task.id.int for task in in_fair_order(tasks, []) if task.project == project]
        assert fair == mine, "within a project nothing changes places"


# ---- quotas


def test_a_project_never_holds_more_than_its_quota_and_others_pass() -> None:
    tasks = [of("a", 1, 2), of("a", 2, 2), of("a", 3), of("b", 4)]
    decision = decide(tasks, [Machine("m", 8, 7)], [held("a", 1, "m")], NOW, 3)
    assert numbers(decision, "starts") == {1: "m", 4: "m"}
    assert decision.kept == {}


def test_who_is_over_the_quota_has_nothing_kept() -> None:
    decision = decide([of("a", 1, 4), of("b", 2, 2)], [Machine("m", 4, 2)], [held("a", 2, "m")], NOW, 4)
    assert numbers(decision, "starts") == {2: "m"}
    assert decision.kept == {}


def test_forecasts_keep_to_the_quota() -> None:
    tasks = [dataclasses.replace(waiting(number, duration=10), project="a") for number in (1, 2)]
    found = forecast(tasks, [Machine("m", 4, 4)], [], NOW, 1)
    assert {task.int: (time - NOW) / MINUTE for task, time in found.items()} == {1: 0, 2: 10}


# ---- simulation


class World:
    """Two trainers, runs that end by chance, and projects of which `flood` never ceases to bring tasks."""

    machines = (Machine("m", 4, 4), Machine("n", 2, 2))

    def __init__(self, seed: int, quota: int = 0) -> None:
        self.chance, self.quota, self.now, self.turn = random.Random(seed), quota, NOW, 0
        self.waiting: list[Waiting] = []
        self.runs: list[tuple[Running, int]] = []
        self.started: dict[int, int] = {}
        self.held: collections.Counter[str] = collections.Counter()
        self._numbers = iter(range(1, 10**9))

    def bring(self, project: str, processes: int = 1) -> int:
        number = next(self._numbers)
        self.waiting.append(Waiting(uuid.UUID(int=number), processes, self.now, None, 0, project))
        return number

    def step(self) -> Decision:
        self.turn += 1
        self.now += MINUTE
        self.runs = [(run, end) for run, end in self.runs if end > self.turn]
        active = [run for run, _ in self.runs]
        machines = [
            dataclasses.replace(one, free=one.total - sum(run.processes for run in active if run.trainer == one.trainer))
            for one in self.machines
        ]
        decision = decide(self.waiting, machines, active, self.now, self.quota)
        for task in self.waiting:
            if trainer := decision.starts.get(task.id):
                self.runs.append((run_of(task, trainer), self.turn + self.chance.randint(1, 8)))
                self.started[task.id.int] = self.turn
        self.waiting = [task for task in self.waiting if task.id not in decision.starts]
        self.held.update(held_by_project(run for run, _ in self.runs))
        self._check()
        return decision

    def _check(self) -> None:
        for machine in self.machines:
            taken = sum(run.processes for run, _ in self.runs if run.trainer == machine.trainer)
            assert taken <= machine.total, "nothing is promised twice"
        if self.quota:
            assert max(held_by_project(run for run, _ in self.runs).values(), default=0) <= self.quota


@pytest.mark.parametrize("seed", range(8))
def test_two_backlogs_share_the_trainers_evenly_however_unequal_they_are(seed: int) -> None:
    world = World(seed)
    for _ in range(300):
        for _ in range(5 if len(world.waiting) < 60 else 0):
            world.bring("flood")
        if len([task for task in world.waiting if task.project == "trickle"]) < 4:
            world.bring("trickle")
            world.bring("trickle")
        world.step()

    assert 0.7 < world.held["trickle"] / world.held["flood"] < 1.3


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("processes", "latest"), [(1, 5), (2, 5), (4, 250)])
def test_no_task_waits_for_ever_whatever_other_projects_bring(seed: int, processes: int, latest: int) -> None:
    """One that needs a whole trainer may have to wait for the 40 tasks of before, but for nothing that came later."""
    world = World(seed)
    for _ in range(40):
        world.bring("flood", world.chance.choice((1, 2)))
    wanted = world.bring("mine", processes)
    for turn in range(latest):
        # New names every time: what holds nothing comes first.
        world.bring("flood", world.chance.choice((1, 2)))
        world.bring(f"fresh {turn}", world.chance.choice((1, 2)))
        world.step()
        if wanted in world.started:
            break

    assert wanted in world.started


@pytest.mark.parametrize("seed", range(5))
def test_a_quota_holds_at_every_moment_and_leaves_nobody_waiting_for_ever(seed: int) -> None:
    world = World(seed, quota=3)
    tasks = [world.bring(world.chance.choice("abc"), world.chance.choice((1, 2, 3))) for _ in range(60)]
    for _ in range(400):
        world.step()

    assert sorted(world.started) == tasks


def test_without_turns_a_flood_would_leave_nothing() -> None:
    """What the test of even shares would see in a queue that only knows ages."""
    tasks = [*(of("flood", number, age=9) for number in range(1, 100)), of("trickle", 100)]
    by_age = sorted(tasks, key=lambda task: task.create_time)
    assert [task.project for task in by_age[:6]] == ["flood"] * 6
    assert [task.project for task in in_fair_order(tasks, [])[:2]] == ["flood", "trickle"]
