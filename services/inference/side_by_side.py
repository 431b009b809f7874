"""Several answers in one stream, each piece with whose it is; used by the model host."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from services.inference.generation import Piece


async def side_by_side(answers: Sequence[AsyncIterator[Piece]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of all answers as they come, with the answer's index; the first failure ends all and is raised."""
    pieces: asyncio.Queue[tuple[int, Piece] | None] = asyncio.Queue()

    async def read(index: int, answer: AsyncIterator[Piece]) -> None:
        async for piece in answer:
            pieces.put_nowait((index, piece))

    reading = [asyncio.create_task(read(index, answer)) for index, answer in enumerate(answers)]
    everything = asyncio.gather(*reading)
    everything.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        while (item := await pieces.get()) is not None:
            yield item
        await everything
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
