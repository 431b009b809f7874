"""Which task starts where: in order, around those that wait for room, and never so that somebody waits for ever."""

import dataclasses
import datetime
import random
import uuid
from collections.abc import Sequence

import pytest

from services.task_manager.domain import schedule
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.schedule import PATIENCE, Decision, Running, Waiting, decide, forecast

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
MINUTE = datetime.timedelta(minutes=1)


def waiting(number: int, processes: int = 1, duration: int | None = None, age: float = 0) -> Waiting:
    """`duration` and `age` in minutes."""
    expected = None if duration is None else duration * MINUTE
    return Waiting(uuid.UUID(int=number), processes, NOW - age * MINUTE, expected)


def running(trainer: str = "a", processes: int = 1, remaining: int | None = None, age: float = 60) -> Running:
    return Running(trainer, processes, NOW - age * MINUTE, None if remaining is None else remaining * MINUTE)


def started(tasks: Sequence[Waiting], machines: Sequence[Machine], runs: Sequence[Running] = ()) -> dict[int, str]:
    """Trainer by number of the task."""
    return numbers(decide(tasks, machines, runs, NOW), "starts")


def numbers(decision: Decision, what: str) -> dict[int, str]:
    return {task_id.int: trainer for task_id, trainer in getattr(decision, what).items()}


# ---- order and room


def test_tasks_start_in_order_while_there_is_room() -> None:
    assert started([waiting(1), waiting(2), waiting(3)], [Machine("a", 2, 2)]) == {1: "a", 2: "a"}


def test_the_trainer_with_the_most_room_is_taken() -> None:
    assert started([waiting(1), waiting(2), waiting(3)], [Machine("a", 2, 1), Machine("b", 4, 3)]) == {1: "b", 2: "b", 3: "a"}


@pytest.mark.parametrize("machines", [[], [Machine("a", 4, 0)]], ids=["none", "full"])
def test_nothing_starts_without_room(machines: list[Machine]) -> None:
    assert decide([waiting(1)], machines, [], NOW) == Decision({}, {})


def test_a_task_too_large_for_every_trainer_stands_in_nobodys_way() -> None:
    assert started([waiting(1, 9), waiting(2, 2)], [Machine("a", 2, 2)]) == {2: "a"}


# ---- keeping room


def test_room_is_kept_for_the_first_that_does_not_fit() -> None:
    decision = decide([waiting(1, 4), waiting(2)], [Machine("a", 4, 3)], [running()], NOW)
    assert (numbers(decision, "starts"), numbers(decision, "kept")) == ({}, {1: "a"})


def test_other_trainers_stay_open() -> None:
    machines = [Machine("a", 4, 3), Machine("b", 2, 2)]
    assert started([waiting(1, 4), waiting(2), waiting(3, 2)], machines, [running("a")]) == {2: "b"}


def test_a_higher_priority_is_before_the_one_that_room_is_kept_for() -> None:
    """The queue's order says who is first; nothing here looks at ages for that."""
    assert started([waiting(2), waiting(1, 4)], [Machine("a", 4, 3)], [running()]) == {2: "a"}


def test_processes_the_large_one_leaves_unused_are_for_the_others() -> None:
    """5 processes, 3 kept, 2 left over: one is held by a task that overtook."""
    machines, runs = [Machine("a", 5, 2)], [running(processes=2), running(age=1)]
    assert started([waiting(1, 3, age=10), waiting(2), waiting(3)], machines, runs) == {2: "a"}


def test_what_ran_before_the_large_one_came_is_not_counted_as_overtaking() -> None:
    machines, runs = [Machine("a", 5, 2)], [running(processes=2), running(age=11)]
    assert started([waiting(1, 3, age=10), waiting(2), waiting(3)], machines, runs) == {2: "a", 3: "a"}


@pytest.mark.parametrize(
    ("remaining", "duration", "fits"),
    [(30, 20, True), (30, 21, False), (30, None, False), (None, 1, False)],
    ids=["short", "nearly", "unknown duration", "unknown end"],
)
def test_a_task_that_ends_before_there_is_room_may_start(remaining: int | None, duration: int | None, fits: bool) -> None:
    """20 minutes, and half as much again for being wrong."""
    tasks = [waiting(1, 4), waiting(2, duration=duration)]
    assert bool(started(tasks, [Machine("a", 4, 3)], [running(remaining=remaining)])) is fits


def test_patience_with_short_tasks_ends() -> None:
    for age, fits in ((PATIENCE / MINUTE, True), (PATIENCE / MINUTE + 1, False)):
        tasks = [waiting(1, 4, age=age), waiting(2, duration=1)]
        assert bool(started(tasks, [Machine("a", 4, 3)], [running(remaining=30)])) is fits


def test_the_trainer_that_has_room_soonest_is_kept() -> None:
    machines = [Machine("a", 4, 1), Machine("b", 4, 1), Machine("c", 4, 1)]
    runs = [running("a", 3), running("b", 3, remaining=5), running("c", 3, remaining=9)]
    assert numbers(decide([waiting(1, 4), waiting(2, 4), waiting(3, 4)], machines, runs, NOW), "kept") == {1: "b", 2: "c", 3: "a"}


# ---- labels and memory


ZONE = {"zone": "a"}


def asking(number: int, processes: int = 1, memory: int = 0, labels: dict[str, str] | None = None, **more: object) -> Waiting:
    return dataclasses.replace(waiting(number, processes, **more), memory_bytes=memory, runner_labels=labels or {})  # type: ignore[arg-type]


def test_a_task_with_labels_goes_where_they_are_and_others_go_where_most_is_free() -> None:
    machines = [Machine("a", 2, 2, ZONE), Machine("b", 4, 4)]
    assert started([asking(1, labels=ZONE), asking(2), asking(3, labels={"zone": "b"})], machines) == {1: "a", 2: "b"}


def test_a_task_whose_label_nobody_has_keeps_nothing() -> None:
    decision = decide([asking(1, 4, labels={"zone": "b"}), asking(2, 4)], [Machine("a", 4, 4, ZONE)], [], NOW)
    assert (numbers(decision, "starts"), decision.kept) == ({2: "a"}, {})


def test_room_is_kept_only_on_a_trainer_that_has_the_labels() -> None:
    machines = [Machine("a", 2, 1, ZONE), Machine("b", 4, 1)]
    runs = [running("a", 1, 30), running("b", 3, 5)]
    decision = decide([asking(1, 2, labels=ZONE), asking(2), asking(3)], machines, runs, NOW)
    assert (numbers(decision, "kept"), numbers(decision, "starts")) == ({1: "a", 3: "b"}, {2: "b"})


def test_a_task_goes_where_its_memory_fits() -> None:
    machines = [Machine("a", 4, 4, {}, 10, 6), Machine("b", 2, 2, {}, 20, 8)]
    assert started([asking(1, memory=8), asking(2, memory=7), asking(3, memory=6)], machines) == {1: "b", 3: "a"}


def test_memory_is_kept_for_the_first_that_lacks_it() -> None:
    machines = [Machine("a", 8, 6, {}, 10, 4)]
    runs = [dataclasses.replace(running(processes=2, remaining=30), memory_bytes=6)]
    tasks = [asking(1, memory=8, age=1), asking(2, memory=2), asking(3, memory=2), asking(4, memory=2, duration=60)]
    decision = decide(tasks, machines, runs, NOW)
    assert numbers(decision, "kept") == {1: "a"}
    assert numbers(decision, "starts") == {2: "a"}, "the rest would take what the first needs when the run has ended"


def test_memory_that_others_on_the_machine_hold_is_not_counted_as_left_over() -> None:
    machines = [Machine("a", 8, 7, {}, 20, 4)]
    runs = [dataclasses.replace(running(remaining=30), memory_bytes=6)]
    decision = decide([asking(1, memory=9), asking(2, memory=2)], machines, runs, NOW)
    assert numbers(decision, "kept") == {1: "a"}
    assert numbers(decision, "starts") == {}, "of 20 others have 10, and 9 of the other 10 are needed"


def test_a_task_for_which_others_on_the_machine_leave_no_memory_keeps_nobody_waiting() -> None:
    machines = [Machine("a", 4, 4, {}, 20, 5)]
    tasks = [asking(1, memory=8, age=1), asking(2, memory=4), asking(3)]
    decision = decide(tasks, machines, [], NOW)
    assert (decision.kept, numbers(decision, "starts")) == ({}, {2: "a", 3: "a"})
    roomy = [dataclasses.replace(machines[0], free_memory=8)]
    assert started(tasks, roomy) == {1: "a", 3: "a"}, "it is next as soon as there is memory"


def test_forecasts_know_of_labels_and_of_memory_that_ends_with_a_run() -> None:
    machines = [Machine("a", 4, 3, ZONE, 10, 4), Machine("b", 4, 4)]
    runs = [dataclasses.replace(running(remaining=5), memory_bytes=6)]
    tasks = [asking(1, memory=8, labels=ZONE), asking(2, labels={"zone": "b"}), asking(3)]
    found = forecast(tasks, machines, runs, NOW)
    assert {task_id.int: (time - NOW) / MINUTE for task_id, time in found.items()} == {1: 5, 3: 0}


# ---- no starvation


def first_start_of_the_large_one(seed: int, *, keeps_room: bool = True) -> int | None:
    """The round in which a task that needs a whole trainer starts, while small ones never cease to come; runs end by chance."""
    chance, now, left = random.Random(seed), NOW, []
    machines = [Machine("a", 4, 4), Machine("b", 3, 3)]
    runs: list[tuple[Running, int]] = []
    large = waiting(0, 4)
    for turn in range(400):
        now += MINUTE
        runs = [(run, end) for run, end in runs if end > turn]
        left += [
            Waiting(uuid.UUID(int=turn * 4 + each + 1), chance.choice((1, 2)), now, chance.choice((None, 3 * MINUTE)))
            for each in range(4)
        ]
        free = {m.trainer: m.total - sum(run.processes for run, _ in runs if run.trainer == m.trainer) for m in machines}
        queue = [large, *left] if turn > 5 else left
        decision = decide(
            queue if keeps_room else left,
            [dataclasses.replace(m, free=free[m.trainer]) for m in machines],
            [run for run, _ in runs],
            now,
        )
        if large.id in decision.starts:
            return turn
        for task in left:
            if trainer := decision.starts.get(task.id):
                # An expectation may be wrong by far.
                runs.append((Running(trainer, task.processes, task.create_time, task.duration), turn + chance.randint(1, 30)))
                free[trainer] -= task.processes
        assert all(room >= 0 for room in free.values()), "nothing is promised twice"
        left = [task for task in left if task.id not in decision.starts]
        if not keeps_room and turn > 5 and free["a"] == 4:
            return turn
    return None


@pytest.mark.parametrize("seed", range(40))
def test_a_large_task_starts_however_many_small_ones_come(seed: int) -> None:
    turn = first_start_of_the_large_one(seed)
    assert turn is not None
    assert turn <= 70, "what was there ends within 30 rounds, patience with what is short within 30 more"


def test_without_keeping_room_it_would_wait_for_ever() -> None:
    assert [first_start_of_the_large_one(seed, keeps_room=False) for seed in range(5)] == [None] * 5


# ---- forecasts


def expected(tasks: Sequence[Waiting], machines: Sequence[Machine], runs: Sequence[Running]) -> dict[int, float]:
    """Minutes from now by number of the task."""
    return {task_id.int: (time - NOW) / MINUTE for task_id, time in forecast(tasks, machines, runs, NOW).items()}


def test_tasks_are_expected_when_those_before_them_end() -> None:
    tasks = [waiting(1, duration=10), waiting(2, duration=10), waiting(3)]
    assert expected(tasks, [Machine("a", 1, 0)], [running(remaining=5)]) == {1: 5, 2: 15, 3: 25}


def test_nothing_is_told_behind_a_run_whose_end_is_unknown() -> None:
    assert expected([waiting(1), waiting(2)], [Machine("a", 1, 0)], [running(remaining=5)]) == {1: 5}
    assert expected([waiting(1)], [Machine("a", 1, 0)], [running()]) == {}


def test_runs_on_a_trainer_that_does_not_answer_make_no_room() -> None:
    assert expected([waiting(1)], [Machine("a", 1, 0)], [running("b", remaining=5)]) == {}


def test_the_forecast_keeps_the_rules_of_the_queue() -> None:
    tasks = [waiting(1, 4, duration=10), waiting(2, 2, duration=60)]
    assert expected(tasks, [Machine("a", 4, 2)], [running(processes=2, remaining=30)]) == {1: 30, 2: 40}


def test_a_task_that_fits_is_expected_now() -> None:
    assert expected([waiting(1)], [Machine("a", 1, 1)], []) == {1: 0}


def test_every_ending_frees_its_processes_once() -> None:
    tasks = [waiting(number, 1, duration=10) for number in range(1, 7)]
    assert expected(tasks, [Machine("a", 2, 0)], [running(remaining=5), running(remaining=5)]) == {
        1: 5,
        2: 5,
        3: 15,
        4: 15,
        5: 25,
        6: 25,
    }


def test_the_margin_is_what_the_documentation_says() -> None:
    assert (1.5, datetime.timedelta(minutes=30)) == (schedule._MARGIN, PATIENCE)


def test_an_older_backlog_of_lower_priority_does_not_keep_a_large_task_from_starting() -> None:
    urgent = dataclasses.replace(waiting(1, 3), priority=10)
    older = [waiting(number, age=60) for number in range(2, 9)]
    runs = [running(remaining=None, age=90), running(remaining=None, age=90)]
    decision = decide([urgent, *older], [Machine("a", 4, 2)], runs, NOW)
    assert numbers(decision, "kept") == {1: "a"}
    assert numbers(decision, "starts") == {}
    assert numbers(decide([urgent, *older], [Machine("a", 4, 3)], runs[:1], NOW), "starts") == {1: "a"}
