"""What a waiting task waits for and when it is expected to start, found out when it is read; used by the servicer.

Nothing of this is stored: it changes with every process that becomes free, and would rewrite the whole queue each time.
"""

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from services.task_manager.domain import waiting
from services.task_manager.domain.schedule import forecast
from services.task_manager.domain.shares import held_by_project, in_fair_order
from services.task_manager.domain.task import State, Task
from services.task_manager.fleet import Fleet
from services.task_manager.task_queue import QueueView

FORECAST = 100
"""So many tasks at the head of the queue are told when they are expected to start."""


class Queue(Protocol):
    """TaskQueue is one."""

    async def look(self, *, largest: int, limit: int) -> QueueView:
        """See TaskQueue."""


class Outlook:
    """Raises Unavailable when Postgres is away."""

    def __init__(self, queue: Queue, fleet: Fleet, now: Callable[[], datetime.datetime], quota: int = 0) -> None:
        """`quota`: processes that a project may hold, 0 = no limit."""
        self._queue = queue
        self._fleet = fleet
        self._now = now
        self._quota = quota

    async def tell(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """The same tasks; those that wait say why, and when they are expected to start."""
        if not self._fleet.is_known or not any(task.state is State.QUEUED for task in tasks):
            return tasks
        now, machines = self._now(), self._fleet.machines
        queue = await self._look()
        # In the order of turns, so that the first are those that start first.
        first = in_fair_order(queue.waiting, queue.running)[:FORECAST]
        expected = forecast(first, machines, queue.running, now, self._quota) if machines else {}
        held = held_by_project(queue.running)
        return [self._told(task, expected, held, now) if task.state is State.QUEUED else task for task in tasks]

    async def _look(self) -> QueueView:
        machines = self._fleet.machines
        if not machines and not self._quota:
            return QueueView([], [], self._now())
        return await self._queue.look(largest=max((one.total for one in machines), default=0), limit=FORECAST)

    def _told(
        self,
        task: Task,
        expected: Mapping[uuid.UUID, datetime.datetime],
        held: Mapping[str, int],
        now: datetime.datetime,
    ) -> Task:
        reason = waiting.reason(
            task.processes,
            task.not_before,
            self._fleet.machines,
            self._fleet.silent,
            now,
            unfit=self._fleet.unfit,
            held=held.get(task.labels.get("project", ""), 0),
            quota=self._quota,
        )
        return dataclasses.replace(task, state_reason=reason, expected_start_time=expected.get(task.id))
