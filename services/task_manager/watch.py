"""Follows the events of one task for one reader: replay from the store, then what comes; used by the streaming methods.

Memory per reader is one page: the next is read when the reader has taken this one, so a slow reader only slows itself.

Nothing is left out, since events of a task have numbers without gaps that are given under a lock held until their commit:
whoever sees number n sees every number below. So the last number sent is all that a reader needs to go on, here or at another
task manager. Hints only save time: without any, the store is looked at every `poll_interval`.

Nothing comes behind the end: the last event of a task is its change to a terminal state, and state and number of the newest event
are read together. A task that is tried again has a new state and goes on with the next number.
"""

import asyncio
import dataclasses
import datetime
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence

from services.common.errors import InvalidArgument, ServiceError, Unavailable, Violation
from services.task_manager.domain.task import Snapshot
from services.task_manager.event_log import EventLog
from services.task_manager.frames import split
from services.task_manager.hub import Hub, wait_for
from tunesmith.v1 import task_event_pb2

Wanted = Callable[[task_event_pb2.TaskEvent], bool]
"""Whether a reader asked for an event; those it did not ask for move the cursor all the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """First: where the task stands."""

    snapshot: Snapshot


@dataclasses.dataclass(frozen=True, slots=True)
class Events:
    """Wanted events in order."""

    events: Sequence[task_event_pb2.TaskEvent]


@dataclasses.dataclass(frozen=True, slots=True)
class Idle:
    """Nothing else was sent for a while; everything up to `head_sequence` has been looked at."""

    head_sequence: int
    time: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """Last: the terminal state."""

    snapshot: Snapshot


Item = Header | Events | Idle | End


class Watch:
    """Makes streams. `stopping` is set when the server shuts down; intervals are in seconds."""

    def __init__(
        self,
        log: EventLog,
        hub: Hub,
        stopping: asyncio.Event,
        *,
        heartbeat_interval: float,
        poll_interval: float,
        now: Callable[[], datetime.datetime],
    ) -> None:
        self._log = log
        self._hub = hub
        self._stopping = stopping
        self._heartbeat_interval = heartbeat_interval
        self._poll_interval = poll_interval
        self._now = now

    async def follow(self, task_id: uuid.UUID, after: int, wanted: Wanted) -> AsyncIterator[Item]:
        """Header, events, heartbeats, end. Raises InvalidArgument, NotFound, CURSOR_AHEAD, CURSOR_EXPIRED, SERVER_STOPPING."""
        with self._hub.subscribed(task_id) as hint:
            snapshot = await self._log.snapshot(task_id)
            check_cursor(after, snapshot)
            yield Header(snapshot)
            cursor, sent_at = after, time.monotonic()
            while True:
                # First: what is committed after the look below sets it again.
                hint.clear()
                snapshot = await self._log.snapshot(task_id)
                if snapshot.head_sequence > cursor:
                    page = await self._page(task_id, cursor, snapshot)
                    cursor = page[-1].sequence
                    for group in split(filter(wanted, page)):
                        yield Events(group)
                        sent_at = time.monotonic()
                # A page may reach beyond the snapshot; then there is a newer one to look at.
                if cursor == snapshot.head_sequence:
                    if snapshot.state.is_terminal:
                        yield End(snapshot)
                        return
                    due = sent_at + self._heartbeat_interval - time.monotonic()
                    await wait_for(hint, max(0.0, min(self._poll_interval, due)))
                self._check_not_stopping(cursor)
                if time.monotonic() - sent_at >= self._heartbeat_interval:
                    yield Idle(cursor, self._now())
                    sent_at = time.monotonic()

    async def _page(self, task_id: uuid.UUID, cursor: int, snapshot: Snapshot) -> Sequence[task_event_pb2.TaskEvent]:
        page = await self._log.page(task_id, cursor)
        if not page or page[0].sequence != cursor + 1 or page[-1].sequence != cursor + len(page):
            # Deleted or dropped since the snapshot: the reader must learn it, never skip it.
            check_cursor(cursor, await self._log.snapshot(task_id))
            raise ServiceError("INTERNAL", f"events after {cursor} of {snapshot.head_sequence} are missing in the store")
        return page

    def _check_not_stopping(self, cursor: int) -> None:
        if self._stopping.is_set():
            metadata = {"after_sequence": str(cursor)}
            raise Unavailable("SERVER_STOPPING", f"the server is stopping; resume after sequence {cursor}", metadata=metadata)


def check_not_negative(after: int) -> None:
    """Raises InvalidArgument for a cursor below 0."""
    if after < 0:
        raise InvalidArgument(Violation("after_sequence", f"{after} is negative; use 0 to read from the beginning"))


def check_cursor(after: int, snapshot: Snapshot) -> None:
    """Raises InvalidArgument, CURSOR_AHEAD or CURSOR_EXPIRED when events cannot be read on from `after`."""
    check_not_negative(after)
    metadata = {
        "head_sequence": str(snapshot.head_sequence),
        "first_available_sequence": str(snapshot.first_available_sequence),
    }
    if after > snapshot.head_sequence:
        message = f"after_sequence {after} is ahead of the newest event, {snapshot.head_sequence}"
        raise ServiceError("CURSOR_AHEAD", message, metadata=metadata)
    if after < snapshot.first_available_sequence - 1:
        message = f"events up to {snapshot.first_available_sequence - 1} are not kept any more; after_sequence was {after}"
        raise ServiceError("CURSOR_EXPIRED", message, metadata=metadata)
