"""One thread that does one thing after the other, in the order asked; used by the model host to run the engine."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


class Worker:
    """The bridge from the event loop to the thread. Leaving its block does not wait for work that is under way."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`; a caller who is cancelled before its turn takes its work along."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._executor, context.run, work)

    def post(self, work: Callable[[], object]) -> None:
        """Has `work` done before everything that is asked for later; nobody waits for it, and a failure is logged."""
        try:
            self._executor.submit(_logged, work)
        except RuntimeError:  # The service ends, and the memory with it.
            log.debug("worker.ended")


def _logged(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        log.exception("worker.failed")
