"""What a waiting task says, and how long it rests between attempts."""

import datetime
import uuid
from collections.abc import Sequence

import pytest
from task_values import NOW, a_task

from services.task_manager.domain.backoff import rest
from services.task_manager.domain.schedule import Machine, Running, Waiting
from services.task_manager.domain.task import State
from services.task_manager.domain.waiting import reason
from services.task_manager.fleet import Fleet
from services.task_manager.outlook import Outlook
from services.task_manager.task_queue import QueueView

MINUTE = datetime.timedelta(minutes=1)
A, B = Machine("a:1", 4, 0), Machine("b:1", 2, 1)


@pytest.mark.parametrize(
    ("processes", "machines", "silent", "said"),
    [
        (1, [A], [], "waits for a free trainer"),
        (1, [A], ["c:1"], "waits for a free trainer; c:1 does not answer"),
        (1, [], ["b:1", "c:1"], "waits for a trainer: b:1, c:1 does not answer"),
        (2, [A, B], [], "needs 2 processes on one trainer; 1 is free"),
        (3, [Machine("a:1", 4, 2)], [], "needs 3 processes on one trainer; 2 are free"),
        (8, [A, B], [], "needs 8 processes; the largest trainer has 4"),
        (8, [A], ["c:1"], "waits for a free trainer; c:1 does not answer"),
        (1, [A, B], [], "waits for its turn: room is kept for tasks before it"),
    ],
)
def test_a_waiting_task_says_what_it_waits_for(processes: int, machines: list[Machine], silent: list[str], said: str) -> None:
    assert reason(processes, None, machines, silent, NOW) == said


@pytest.mark.parametrize(
    ("processes", "machines", "silent", "said"),
    [
        (1, [], [], "waits for a trainer: c:1 has version 9.0.0, which does not fit the task manager's"),
        (1, [A], [], "waits for a free trainer; c:1 has version 9.0.0, which does not fit the task manager's"),
        (
            8,
            [],
            ["b:1"],
            "waits for a trainer: b:1 does not answer and c:1 has version 9.0.0, which does not fit the task manager's",
        ),
        (2, [A, B], [], "needs 2 processes on one trainer; 1 is free"),
    ],
    ids=["no other", "full", "silent too", "room elsewhere"],
)
async def test_a_trainer_of_another_version_is_named(
    processes: int, machines: list[Machine], silent: list[str], said: str
) -> None:
    fleet = Fleet()
    fleet.tell(machines, silent, {"c:1": "9.0.0"})
    (task,), _ = await told(fleet, a_task(processes=processes))
    assert task.state_reason == said  # type: ignore[attr-defined]


@pytest.mark.parametrize(("held", "quota", "waits"), [(2, 4, False), (3, 4, True), (9, 0, False), (9, 4, True)])
def test_a_task_of_a_project_that_holds_its_quota_says_so(held: int, quota: int, waits: bool) -> None:
    said = reason(2, None, [Machine("a:1", 8, 1)], [], NOW, held=held, quota=quota)
    assert (said == f"waits for its project, which holds {held} of {quota} processes; it needs 2") is waits


async def test_the_quota_is_told_from_the_runs_of_the_task_s_own_project() -> None:
    fleet = Fleet()
    fleet.tell([A], [])
    mine, other = a_task(labels={"project": "p"}), a_task(labels={"project": "q"})
    queue = FakeQueue()
    queue.runs = [Running("a:1", 4, NOW, 5 * MINUTE, project="p")]
    first, second = await Outlook(queue, fleet, lambda: NOW, quota=4).tell([mine, other])
    assert first.state_reason == "waits for its project, which holds 4 of 4 processes; it needs 1"
    assert second.state_reason == "waits for a free trainer"


def test_a_task_that_is_not_due_says_when_it_is() -> None:
    assert reason(9, NOW + MINUTE, [A], [], NOW) == "waits until 2026-01-02 03:05:05 UTC"
    assert reason(1, NOW, [A], [], NOW) == "waits for a free trainer"


@pytest.mark.parametrize(("lost", "seconds"), [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (100, 300), (10**6, 300)])
def test_rests_double_up_to_five_minutes(lost: int, seconds: int) -> None:
    assert rest(lost, datetime.timedelta(seconds=2)) == datetime.timedelta(seconds=seconds)


def test_a_first_rest_that_is_longer_stays() -> None:
    assert rest(2, datetime.timedelta(hours=1)) == datetime.timedelta(hours=1)


class FakeQueue:
    """One waiting task behind one run that ends in 5 minutes."""

    def __init__(self) -> None:
        self.looks = 0
        self.runs = [Running("a:1", 4, NOW, 5 * MINUTE)]

    async def look(self, *, largest: int, limit: int) -> QueueView:
        self.looks += 1
        return QueueView([Waiting(uuid.UUID(int=5), 1, NOW)], self.runs, NOW)


async def told(fleet: Fleet, *tasks: object) -> tuple[Sequence[object], int]:
    queue = FakeQueue()
    return await Outlook(queue, fleet, lambda: NOW).tell(tasks), queue.looks  # type: ignore[arg-type]


async def test_waiting_tasks_are_told_and_others_left_as_they_are() -> None:
    fleet = Fleet()
    fleet.tell([A], [])
    active = a_task(state=State.RUNNING)
    (first, second), looks = await told(fleet, a_task(), active)
    assert first == a_task(state_reason="waits for a free trainer", expected_start_time=NOW + 5 * MINUTE)
    assert (second, looks) == (active, 1)


async def test_nothing_is_asked_when_nothing_waits_or_nothing_is_known() -> None:
    fleet = Fleet()
    assert await told(fleet, a_task()) == ((a_task(),), 0)
    fleet.tell([A], [])
    assert await told(fleet, a_task(state=State.PAUSED)) == ((a_task(state=State.PAUSED),), 0)


async def test_without_trainers_there_is_a_reason_and_no_forecast() -> None:
    fleet = Fleet()
    fleet.tell([], ["a:1"])
    (task,), looks = await told(fleet, a_task())
    assert task == a_task(state_reason="waits for a trainer: a:1 does not answer")
    assert looks == 0
