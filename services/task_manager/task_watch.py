"""Follows the changes of many tasks for one reader; used by WatchTasks.

A change is numbered when its transaction begins to write and seen when it commits, so a later one may be seen first. Every look
therefore begins at the horizon of the look before: the oldest transaction that had not ended then. What was told already and is
still behind the horizon is remembered and not told again.
"""

import asyncio
import datetime
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from services.common.errors import Unavailable
from services.task_manager.domain.task import Task
from services.task_manager.domain.task_filter import Position, TaskFilter
from services.task_manager.hub import wait_for
from services.task_manager.task_listing import ChangedTask, Moment, Place

OVERLAP = datetime.timedelta(seconds=60)
"""No transaction of the task manager takes longer; who comes back with a time may have missed what was committed so late."""
_PAGE = 500
_FIRST = uuid.UUID(int=0)


class Listing(Protocol):
    """TaskListing is one."""

    async def changed_since(self, wanted: TaskFilter, after: Position, limit: int) -> list[ChangedTask]:
        """See TaskListing."""

    async def changed(self, wanted: TaskFilter, after: Place, limit: int) -> list[ChangedTask]:
        """See TaskListing."""

    async def moment(self) -> Moment:
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
        moment, told = await self._listing.moment(), set[Place]()
        if after is None:
            # What is there already is not for a reader who begins now, but what is committed later is, whenever it began.
            async for page in self._pages(wanted, moment.horizon):
                told |= {one.place for one in page}
        else:
            async for page in self._pages_since(wanted, after - OVERLAP):
                told |= {one.place for one in page}
                yield [one.task for one in page], min(moment.time, page[-1].task.update_time)
        reached, sent_at = moment.time, time.monotonic()
        yield (), reached
        while True:
            await self._wait(reached)
            since, moment = moment.horizon, await self._listing.moment()
            async for page in self._pages(wanted, since):
                if fresh := [one for one in page if one.place not in told]:
                    told |= {one.place for one in fresh}
                    yield [one.task for one in fresh], reached
                    sent_at = time.monotonic()
            told = {place for place in told if place[0] >= moment.horizon}
            # Only now: who leaves between two pages has not been told everything.
            reached = moment.time
            if time.monotonic() - sent_at >= self._heartbeat_interval:
                yield (), reached
                sent_at = time.monotonic()

    async def _wait(self, reached: datetime.datetime) -> None:
        await wait_for(self._stopping, self._poll_interval)
        if self._stopping.is_set():
            message = f"the server is stopping; resume after {reached.isoformat()}"
            raise Unavailable("SERVER_STOPPING", message, metadata={"after_time": reached.isoformat()})

    def _pages(self, wanted: TaskFilter, horizon: int) -> AsyncIterator[list[ChangedTask]]:
        return _all(lambda after: self._listing.changed(wanted, after, _PAGE), (horizon, _FIRST), lambda one: one.place)

    def _pages_since(self, wanted: TaskFilter, since: datetime.datetime) -> AsyncIterator[list[ChangedTask]]:
        def position(one: ChangedTask) -> Position:
            return one.task.update_time, one.task.id

        return _all(lambda after: self._listing.changed_since(wanted, after, _PAGE), (since, _FIRST), position)


async def _all(
    read: Callable[[Any], Awaitable[list[ChangedTask]]], after: Any, position: Callable[[ChangedTask], Any]
) -> AsyncIterator[list[ChangedTask]]:
    """Page after page until one is not full."""
    while page := await read(after):
        yield page
        if len(page) < _PAGE:
            return
        after = position(page[-1])
