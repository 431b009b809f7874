"""One thread that does one thing after the other, in the order asked; used by the model host to run the engine."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

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

    async def iterate(self, work: Callable[[], Iterator[T]], cancelled: threading.Event) -> AsyncIterator[T]:
        """The items of `work()` as they are made, none of them None. Leaving early sets `cancelled`, which `work` is to heed."""
        loop = asyncio.get_running_loop()
        items: asyncio.Queue[T | None] = asyncio.Queue()

        def drain() -> None:
            for item in work():
                loop.call_soon_threadsafe(items.put_nowait, item)

        running = asyncio.ensure_future(self.run(drain))
        # The loop runs call-backs in order, so this comes after the last item; also when the work never began.
        running.add_done_callback(lambda _: items.put_nowait(None))
        try:
            while (item := await items.get()) is not None:
                yield item
            await running
        finally:
            cancelled.set()
            running.cancel()
