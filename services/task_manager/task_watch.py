"""Follows the changes of many tasks for one reader; used by WatchTasks.

A change is timed when its transaction begins and seen when it commits, so a later one may be seen first. Every look therefore
goes back further than any transaction takes, and leaves out what has been told.
"""

import asyncio
import datetime
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.common.errors import Unavailable
from services.task_manager.domain.task import Task
from services.task_manager.domain.task_filter import TaskFilter
from services.task_manager.hub import wait_for

OVERLAP = datetime.timedelta(seconds=60)
_PAGE = 500
_FIRST = uuid.UUID(int=0)


class Listing(Protocol):
    """TaskListing is one."""

    async def changed(self, wanted: TaskFilter, after: tuple[datetime.datetime, uuid.UUID], limit: int) -> list[Task]:
        """See TaskListing."""

    async def now(self) -> datetime.datetime:
        """See TaskListing."""


class TaskWatch:
    """Makes streams. `stopping` is set when the server shuts down; intervals are in seconds."""

    def __init__(self, listing: Listing, stopping: asyncio.Event, *, heartbeat_interval: float, poll_interval: float) -> None:
        self._listing = listing
        self._stopping = stopping
        self._heartbeat_interval = heartbeat_interval
        self._poll_interval = poll_interval

    async def follow(
        self, wanted: TaskFilter, after: datetime.datetime | None
    ) -> AsyncIterator[tuple[Sequence[Task], datetime.datetime]]:
        """Tasks that changed, and the time up to which all is told; no tasks when idle. Raises SERVER_STOPPING, Unavailable.

        The first look is answered even without a change, so that every reader has a time to go on from.
        """
        told: dict[uuid.UUID, datetime.datetime] = {}
        reached = after or await self._listing.now()
        # Changes from before, seen late, are not for a reader who begins now.
        floor = reached - OVERLAP if after else reached
        sent_at = -self._heartbeat_interval
        while True:
            now = await self._listing.now()
            async for page in self._pages(wanted, max(floor, reached - OVERLAP)):
                if fresh := [task for task in page if told.get(task.id) != task.update_time]:
                    told |= {task.id: task.update_time for task in fresh}
                    reached = max(reached, fresh[-1].update_time)
                    yield fresh, reached
                    sent_at = time.monotonic()
            reached = max(reached, now)
            told = {task_id: update for task_id, update in told.items() if update >= reached - OVERLAP}
            if time.monotonic() - sent_at >= self._heartbeat_interval:
                yield (), reached
                sent_at = time.monotonic()
            await wait_for(self._stopping, self._poll_interval)
            if self._stopping.is_set():
                message = f"the server is stopping; resume after {reached.isoformat()}"
                raise Unavailable("SERVER_STOPPING", message, metadata={"after_time": reached.isoformat()})

    async def _pages(self, wanted: TaskFilter, since: datetime.datetime) -> AsyncIterator[list[Task]]:
        position = (since, _FIRST)
        while page := await self._listing.changed(wanted, position, _PAGE):
            yield page
            if len(page) < _PAGE:
                return
            position = (page[-1].update_time, page[-1].id)
