"""Who watches many tasks misses no change, however late it is committed, and is told none twice."""

import asyncio
import dataclasses
import datetime
import uuid
from collections.abc import Sequence

import pytest
from task_values import a_task

from services.common.errors import Unavailable
from services.task_manager.domain.task import Task
from services.task_manager.domain.task_filter import Position, TaskFilter
from services.task_manager.task_listing import ChangedTask, Moment, Place
from services.task_manager.task_watch import OVERLAP, TaskWatch

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


def changed(transaction: int, task_id: uuid.UUID | None = None, *, at: datetime.datetime | None = None) -> ChangedTask:
    """By default a change of its transaction's second."""
    return ChangedTask(a_task(id=task_id or uuid.uuid4(), update_time=at or START + transaction * SECOND), transaction)


@dataclasses.dataclass
class Look:
    """What is committed before a look, and the oldest transaction that has not ended by then."""

    committed: Sequence[ChangedTask] = ()
    horizon: int = 0


class FakeListing:
    """Tasks in memory; the first of the looks is what the reader finds, and the last one stops the server."""

    def __init__(self, stopping: asyncio.Event, looks: Sequence[Look]) -> None:
        self.tasks: dict[uuid.UUID, ChangedTask] = {}
        self.time = START
        self.read: list[int] = []
        self._stopping = stopping
        self._looks = list(looks)

    async def moment(self) -> Moment:
        look = self._looks.pop(0) if self._looks else Look()
        self.tasks |= {one.task.id: one for one in look.committed}
        self.time += SECOND
        if not self._looks:
            self._stopping.set()
        return Moment(self.time, look.horizon)

    async def changed_since(self, wanted: TaskFilter, after: Position, limit: int) -> list[ChangedTask]:
        behind = [one for one in self.tasks.values() if (one.task.update_time, one.task.id) > after]
        return sorted(behind, key=lambda one: (one.task.update_time, one.task.id))[:limit]

    async def changed(self, wanted: TaskFilter, after: Place, limit: int) -> list[ChangedTask]:
        found = sorted((one for one in self.tasks.values() if one.place > after), key=lambda one: one.place)[:limit]
        self.read.append(len(found))
        return found


async def told(*looks: Look, after: datetime.datetime | None = None) -> tuple[list[Task], str, FakeListing]:
    """Everything that is told until the server stops, and where to go on."""
    stopping = asyncio.Event()
    listing = FakeListing(stopping, looks)
    watch = TaskWatch(listing, stopping, heartbeat_interval=1000.0, poll_interval=0.0)
    found: list[Task] = []
    with pytest.raises(Unavailable) as caught:
        async for tasks, _ in watch.follow(TaskFilter(), after):
            found += tasks
    return found, caught.value.metadata["after_time"], listing


def tasks(*changes: ChangedTask) -> list[Task]:
    return [one.task for one in changes]


async def test_each_change_is_told_once() -> None:
    first, second = changed(1), changed(2)
    again = changed(3, first.task.id)
    found, _, _ = await told(Look(horizon=1), Look([first], 2), Look([second], 3), Look(horizon=3), Look([again], 4))
    assert found == tasks(first, second, again)


async def test_a_change_that_is_committed_late_is_told() -> None:
    early, late = changed(5), changed(1)
    found, _, _ = await told(Look(horizon=1), Look([early], 1), Look(horizon=1), Look([late], 6), Look(horizon=6))
    assert found == tasks(early, late)


async def test_nothing_is_read_again_once_its_transactions_have_ended() -> None:
    """The early change is read once more while an older transaction is open, and no more after that."""
    early, late = changed(5), changed(1)
    looks = [Look(horizon=1), Look([early], 1), Look([late], 6), Look(horizon=6), Look(horizon=6), Look(horizon=6)]
    _, _, listing = await told(*looks)
    assert listing.read == [0, 1, 2, 0, 0, 0]


async def test_who_begins_now_hears_nothing_from_before_and_all_that_is_committed_from_now_on() -> None:
    before, late = changed(4), changed(3)
    found, _, _ = await told(Look([before], 3), Look([late], 5), Look(horizon=5))
    assert found == tasks(late)


async def test_who_goes_on_hears_what_was_committed_meanwhile_and_late_and_then_what_comes() -> None:
    old, late = changed(1, at=START - OVERLAP - SECOND), changed(2, at=START - OVERLAP + SECOND)
    new = changed(9)
    found, _, _ = await told(Look([old, late], 3), Look([new], 10), Look(horizon=10), after=START)
    assert found == tasks(late, new)


async def test_who_goes_on_is_not_told_again_what_is_still_behind_the_horizon() -> None:
    recent = changed(7)
    found, _, _ = await told(Look([recent], 2), Look(horizon=2), Look(horizon=8), after=START)
    assert found == tasks(recent)


async def test_more_changes_than_a_page_are_all_told_in_order() -> None:
    many = [changed(1) for _ in range(1203)]
    found, _, _ = await told(Look(horizon=1), Look(many, 2), Look(horizon=2))
    assert found == sorted(tasks(*many), key=lambda task: task.id)


async def test_until_all_pages_are_told_the_time_to_go_on_from_stays() -> None:
    stopping = asyncio.Event()
    listing = FakeListing(stopping, [Look(horizon=1), Look([changed(1) for _ in range(501)], 2), Look(horizon=2), Look()])
    stream = TaskWatch(listing, stopping, heartbeat_interval=0.0, poll_interval=0.0).follow(TaskFilter(), None)
    times = [(len(found), (time - START) / SECOND) for found, time in [await anext(stream) for _ in range(4)]]
    assert times == [(0, 1), (500, 1), (1, 1), (0, 2)]


async def test_the_end_says_where_to_go_on() -> None:
    assert (await told(Look(horizon=1), Look([changed(1)], 2)))[1] == (START + 2 * SECOND).isoformat()


async def test_a_reader_hears_at_once_from_when_on_and_then_heartbeats() -> None:
    stopping = asyncio.Event()
    watch = TaskWatch(FakeListing(stopping, [Look()] * 9), stopping, heartbeat_interval=0.0, poll_interval=0.0)
    stream = watch.follow(TaskFilter(), None)
    beats = [await anext(stream) for _ in range(3)]
    assert [found for found, _ in beats] == [(), (), ()]
    assert [time for _, time in beats] == sorted({time for _, time in beats})
