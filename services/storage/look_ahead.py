"""A stream of messages of which one is read ahead: it arrives while the caller works on the one before; used by uploads."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class LookAhead(Generic[T]):
    """The messages of `source` in their order; close it by `async with`, which takes back a read that is under way."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self._coming: asyncio.Task[T | None] | None = None
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait([self._coming])
            if not self._coming.cancelled():
                self._coming.exception()  # looked at, a failure is not logged as forgotten

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """The next message; raises what reading it has raised."""
        if self._ended:
            raise StopAsyncIteration
        coming = self._coming or self._read()
        self._coming = None
        message = await coming
        if message is None:
            self._ended = True
            raise StopAsyncIteration
        self._coming = self._read()
        return message

    def _read(self) -> "asyncio.Task[T | None]":
        return asyncio.ensure_future(_next(self._source))


async def _next(source: AsyncIterator[T]) -> T | None:
    return await anext(source, None)
