"""Keeps exactly those asyncio tasks running that should run; used by the dispatcher."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any

Start = Callable[[], Coroutine[Any, Any, None]]


class Jobs:
    """Named asyncio tasks inside a task group, by key."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: dict[Hashable, asyncio.Task[None]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._running

    def reconcile(self, wanted: Mapping[Hashable, Start]) -> None:
        """Starts what is wanted and does not run, cancels what runs and is not wanted."""
        for key in self._running.keys() - wanted.keys():
            self._running[key].cancel()
        for key, start in wanted.items():
            if key not in self._running:
                self.start(key, start)

    def start(self, key: Hashable, start: Start) -> None:
        """Starts one job; its name in debuggers and tracebacks is its key. Raises CancelledError when the group is ending."""
        job = start()
        try:
            task = self._group.create_task(job, name=str(key))
        except RuntimeError as ended:
            # Python 3.11 leaves the job behind, which nobody will ever await.
            job.close()
            raise asyncio.CancelledError from ended
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))
