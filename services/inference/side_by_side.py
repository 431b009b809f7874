"""Several answers in one stream, each piece with whose it is; used by the model host."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

from services.inference.generation import Piece

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """Last piece of an answer that came to no end of its own."""

    error: Exception


async def alone(answer: AsyncIterator[Piece]) -> AsyncGenerator[Piece | Failed, None]:
    """The pieces of an answer whose failure is its own affair."""
    try:
        async for piece in answer:
            yield piece
    except Exception as error:
        yield Failed(error)


async def side_by_side(answers: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T], None]:
    """The pieces of all answers as they come, with the answer's index; the first failure ends all and is raised."""
    pieces: asyncio.Queue[tuple[int, T] | None] = asyncio.Queue()

    async def read(index: int, answer: AsyncIterator[T]) -> None:
        async for piece in answer:
            pieces.put_nowait((index, piece))

    reading = [asyncio.create_task(read(index, answer)) for index, answer in enumerate(answers)]
    everything = asyncio.gather(*reading)

    def end(done: asyncio.Future[list[None]]) -> None:
        # Asked for here, since whoever stops listening never asks for it, and the loop would log an error.
        _ = done.cancelled() or done.exception()
        pieces.put_nowait(None)

    everything.add_done_callback(end)
    try:
        while (item := await pieces.get()) is not None:
            yield item
        await everything
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
