"""Wake-up hints inside the process: who follows a task hears of a new event at once. Only hints; polling is the truth."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator


class Hub:
    """Hands hints about tasks to whoever subscribed, and any hint about work to the dispatcher."""

    def __init__(self) -> None:
        self._subscribers: dict[uuid.UUID, set[asyncio.Event]] = {}
        self.work = asyncio.Event()

    def notify(self, task_id: uuid.UUID) -> None:
        """Something about the task was committed."""
        for event in self._subscribers.get(task_id, ()):
            event.set()

    @contextlib.contextmanager
    def subscribed(self, task_id: uuid.UUID) -> Iterator[asyncio.Event]:
        """An event that is set at each hint; clear it before reading the store, so that no hint falls in between."""
        event = asyncio.Event()
        self._subscribers.setdefault(task_id, set()).add(event)
        try:
            yield event
        finally:
            remaining = self._subscribers[task_id]
            remaining.discard(event)
            if not remaining:
                del self._subscribers[task_id]


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Waits for a hint, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
