"""Work that equal requests share, and that goes on when they no longer wait; used for counts, which outlast their callers."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

import structlog

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

log = structlog.get_logger()

MAX_RUNNING = 64


class SharedWork(Generic[K, T]):
    """Works of this process, of which at most 64 outlive their callers; more end with the caller that asked for them."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[T]] = {}

    async def of(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the work of `key` returns or raises; it is started unless it runs."""
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= MAX_RUNNING:
                return await work()
            task = self._running[key] = asyncio.create_task(work())
            task.add_done_callback(lambda ended: self._forget(key, ended))
        return await asyncio.shield(task)

    def _forget(self, key: K, ended: "asyncio.Task[T]") -> None:
        del self._running[key]
        if not ended.cancelled() and (error := ended.exception()):
            # Whoever still waits is told, too.
            log.warning("shared_work.failed", work=str(key), message=str(error))
