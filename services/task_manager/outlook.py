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

    def __init__(self, queue: Queue, fleet: Fleet, now: Callable[[], datetime.datetime]) -> None:
        self._queue = queue
        self._fleet = fleet
        self._now = now

    async def tell(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """The same tasks; those that wait say why, and when they are expected to start."""
        if not self._fleet.is_known or not any(task.state is State.QUEUED for task in tasks):
            return tasks
        now = self._now()
        expected = await self._expected(now)
        return [self._told(task, expected, now) if task.state is State.QUEUED else task for task in tasks]

    async def _expected(self, now: datetime.datetime) -> Mapping[uuid.UUID, datetime.datetime]:
        machines = self._fleet.machines
        if not machines:
            return {}
        queue = await self._queue.look(largest=max(one.total for one in machines), limit=FORECAST)
        return forecast(queue.waiting[:FORECAST], machines, queue.running, now)

    def _told(self, task: Task, expected: Mapping[uuid.UUID, datetime.datetime], now: datetime.datetime) -> Task:
        reason = waiting.reason(task.processes, task.not_before, self._fleet.machines, self._fleet.silent, now)
        return dataclasses.replace(task, state_reason=reason, expected_start_time=expected.get(task.id))
