"""Who watches many tasks misses no change, however late it is committed."""

import asyncio
import datetime
import uuid
from collections.abc import Sequence

import pytest
from task_values import a_task

from services.common.errors import Unavailable
from services.task_manager.domain.task import Task
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.task_watch import OVERLAP, TaskWatch

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


def changed_at(time: datetime.datetime, task_id: uuid.UUID | None = None) -> Task:
    return a_task(id=task_id or uuid.uuid4(), update_time=time)


class FakeListing:
    """Tasks in memory; `looks` are what is committed before each look, and the last one stops the server."""

    def __init__(self, stopping: asyncio.Event, looks: Sequence[Sequence[Task]]) -> None:
        self.tasks: dict[uuid.UUID, Task] = {}
        self.time = START
        self._stopping = stopping
        self._looks = list(looks)
        self._asked = 0

    async def now(self) -> datetime.datetime:
        self._asked += 1
        return self.time

    async def changed(self, wanted: TaskFilter, after: tuple[datetime.datetime, uuid.UUID], limit: int) -> list[Task]:
        if after[1].int == 0:
            self._commit()
        behind = [task for task in self.tasks.values() if (task.update_time, task.id) > after]
        return sorted(behind, key=lambda task: (task.update_time, task.id))[:limit]

    def _commit(self) -> None:
        committed = self._looks.pop(0) if self._looks else []
        self.tasks |= {task.id: task for task in committed}
        self.time += SECOND
        if not self._looks:
            self._stopping.set()


async def told(looks: Sequence[Sequence[Task]], after: datetime.datetime | None = None) -> tuple[list[Task], str]:
    """Everything that is told until the server stops, and where to go on."""
    stopping = asyncio.Event()
    watch = TaskWatch(FakeListing(stopping, looks), stopping, heartbeat_interval=1000.0, poll_interval=0.0)
    found: list[Task] = []
    with pytest.raises(Unavailable) as caught:
        async for tasks, _ in watch.follow(TaskFilter(), after):
            found += tasks
    return found, caught.value.metadata["after_time"]


async def test_each_change_is_told_once() -> None:
    first, second = changed_at(START + SECOND), changed_at(START + 2 * SECOND)
    again = changed_at(START + 3 * SECOND, first.id)
    assert (await told([[first], [second], [], [again]]))[0] == [first, second, again]


async def test_a_change_that_is_committed_late_is_told() -> None:
    early, late = changed_at(START + 5 * SECOND), changed_at(START + SECOND)
    assert (await told([[early], [], [late], []]))[0] == [early, late]


async def test_who_begins_now_hears_nothing_from_before() -> None:
    assert (await told([[changed_at(START - SECOND)], []]))[0] == []


async def test_who_goes_on_hears_what_was_committed_meanwhile_and_late() -> None:
    old, late = changed_at(START - OVERLAP - SECOND), changed_at(START - OVERLAP + SECOND)
    assert (await told([[old, late], []], after=START))[0] == [late]


async def test_more_changes_than_a_page_are_all_told_in_order() -> None:
    many = [changed_at(START + SECOND) for _ in range(1203)]
    found, _ = await told([many, []])
    assert found == sorted(many, key=lambda task: task.id)


async def test_the_end_says_where_to_go_on() -> None:
    change = changed_at(START + 90 * SECOND)
    assert (await told([[change], []]))[1] == change.update_time.isoformat()


async def test_a_reader_hears_at_once_from_when_on_and_then_heartbeats() -> None:
    stopping = asyncio.Event()
    watch = TaskWatch(FakeListing(stopping, [[]] * 9), stopping, heartbeat_interval=0.0, poll_interval=0.0)
    stream = watch.follow(TaskFilter(), None)
    beats = [await anext(stream) for _ in range(3)]
    assert [tasks for tasks, _ in beats] == [(), (), ()]
    assert [time for _, time in beats] == sorted({time for _, time in beats})
