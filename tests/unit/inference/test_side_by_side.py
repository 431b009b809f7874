"""Several answers in one stream, and what is left of them when nobody listens any more."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

import pytest

from services.inference.side_by_side import side_by_side


class Answers:
    """Answers that give a piece each and then wait for ever; `closed` are those that were let go."""

    def __init__(self) -> None:
        self.closed: set[int] = set()

    async def one(self, number: int) -> AsyncIterator[int]:
        try:
            yield number
            await asyncio.Event().wait()
        finally:
            self.closed.add(number)


async def failing() -> AsyncIterator[int]:
    yield 7
    raise LookupError("a bug")


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, object]]]:
    """What the event loop would log."""
    heard: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    yield heard
    asyncio.get_running_loop().set_exception_handler(None)


async def test_who_stops_listening_ends_all_and_the_loop_has_nothing_to_complain_of(complaints: list[object]) -> None:
    answers = Answers()
    async with contextlib.aclosing(side_by_side([answers.one(0), answers.one(1)])) as pieces:
        assert {await anext(pieces), await anext(pieces)} == {(0, 0), (1, 1)}
    del pieces
    gc.collect()
    await asyncio.sleep(0)
    assert (answers.closed, complaints) == ({0, 1}, [])


async def test_the_first_failure_ends_all_and_is_raised(complaints: list[object]) -> None:
    answers, heard = Answers(), []
    with pytest.raises(LookupError):
        async for piece in side_by_side([answers.one(0), failing()]):
            heard.append(piece)
    gc.collect()
    assert (sorted(heard), answers.closed, complaints) == ([(0, 0), (1, 7)], {0}, [])
