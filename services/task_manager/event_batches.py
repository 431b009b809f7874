"""Gathers what a run's stream brings, so that many events are stored in one transaction; used by the follower of a run."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

from services.task_manager.frames import MAX_EVENTS
from services.task_manager.trainer_port import RunMessage
from tunesmith.v1 import task_event_pb2

BEGINNINGS = {"training_started": "the first step begins", "answering_started": "models begin to answer"}
"""In words, by the kind of event."""
_MAX_BYTES = 4 * 1024 * 1024


async def gathered(messages: AsyncIterator[RunMessage], seconds: float) -> AsyncGenerator[list[RunMessage], None]:
    """Groups of messages in order: what arrives within `seconds` of the first one, at most MAX_EVENTS messages and about 4 MiB.

    When the stream breaks, what had arrived is given first and the error is raised then.
    """
    iterator = aiter(messages)
    reading = asyncio.ensure_future(_next(iterator))
    try:
        while (message := await reading) is not None:
            group, size = [message], message.size
            reading = asyncio.ensure_future(_next(iterator))
            deadline = asyncio.get_running_loop().time() + seconds
            while len(group) < MAX_EVENTS and size < _MAX_BYTES and await _has_message(reading, deadline):
                group.append(_message(reading))
                size += group[-1].size
                reading = asyncio.ensure_future(_next(iterator))
            yield group
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            # Looked at, so that nobody complains of an error that nobody waited for any more.
            reading.exception()


def in_order(events: Iterable[task_event_pb2.TaskEvent], after: int) -> Iterator[task_event_pb2.TaskEvent]:
    """The events that follow on `after` one by one; repeats are left out, and what comes after a gap."""
    for event in events:
        if event.sequence == after + 1:
            after += 1
            yield event


def begins(event: task_event_pb2.TaskEvent) -> str:
    """What begins with the event, in words; empty when nothing does."""
    return BEGINNINGS.get(event.WhichOneof("event") or "", "")


def split_at_start(events: Iterable[task_event_pb2.TaskEvent]) -> Iterator[list[task_event_pb2.TaskEvent]]:
    """All events in at most a few groups: the beginning of the work opens one, so that the state changes right before it."""
    group: list[task_event_pb2.TaskEvent] = []
    for event in events:
        if group and begins(event):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


async def _next(iterator: AsyncIterator[RunMessage]) -> RunMessage | None:
    return await anext(iterator, None)


async def _has_message(reading: "asyncio.Future[RunMessage | None]", deadline: float) -> bool:
    remaining = max(0.0, deadline - asyncio.get_running_loop().time())
    await asyncio.wait({reading}, timeout=remaining)
    return reading.done() and reading.exception() is None and reading.result() is not None


def _message(reading: "asyncio.Future[RunMessage | None]") -> RunMessage:
    message = reading.result()
    assert message is not None, "the caller has looked"
    return message
