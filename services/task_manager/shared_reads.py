"""Reads that many readers share: what is asked while an answer is on its way is asked together next; used by the event log."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedReads(Generic[K, V]):
    """`read` answers at most `most` keys at once and leaves out what there is not.

    An answer is never older than its question: nobody joins a read that has begun.
    """

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], *, most: int) -> None:
        self._read = read
        self._most = most
        self._asked: dict[K, list[asyncio.Future[V | None]]] = {}
        self._working: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """The answer, None when there is none; raises what `read` raises."""
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(key, []).append(future)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="shared reads")
        return await future

    async def _work(self) -> None:
        while self._asked:
            # Whoever was woken together with the first comes along.
            await asyncio.sleep(0)
            asked = {key: self._asked.pop(key) for key in list(self._asked)[: self._most]}
            try:
                found = await self._read(list(asked))
            except Exception as error:
                for future in _waiting(asked.values()):
                    future.set_exception(error)
            except asyncio.CancelledError:
                for future in _waiting(asked.values()):
                    future.cancel()
                raise
            else:
                for key, futures in asked.items():
                    for future in _waiting([futures]):
                        future.set_result(found.get(key))


def _waiting(futures: Iterable[Sequence["asyncio.Future[V | None]"]]) -> Iterator["asyncio.Future[V | None]"]:
    """Those that somebody still waits for."""
    return (future for few in futures for future in few if not future.done())
