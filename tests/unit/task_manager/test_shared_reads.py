"""Many readers, few reads: everybody gets an answer to their own question that is not older than it."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from services.task_manager.shared_reads import SharedReads


class Store:
    """Answers with the time of the read; `gate` holds reads up."""

    def __init__(self) -> None:
        self.time = 0
        self.reads: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def read(self, keys: Sequence[str]) -> Mapping[str, tuple[str, int]]:
        self.reads.append(list(keys))
        begun = self.time
        await self.gate.wait()
        if self.failure:
            raise self.failure
        return {key: (key, begun) for key in keys if key != "nothing"}


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_together_shares_a_read() -> None:
    store = Store()
    reads = SharedReads(store.read, most=100)

    answers = await asyncio.gather(*(reads.get(key) for key in "abab"), reads.get("nothing"))

    assert answers == [("a", 0), ("b", 0), ("a", 0), ("b", 0), None]
    assert store.reads == [["a", "b", "nothing"]]


async def test_nobody_joins_a_read_that_has_begun() -> None:
    store = Store()
    reads = SharedReads(store.read, most=100)
    store.gate.clear()
    first = asyncio.create_task(reads.get("a"))
    await settled()
    store.time = 1
    second, third = asyncio.create_task(reads.get("a")), asyncio.create_task(reads.get("b"))
    await settled()
    store.gate.set()

    assert await asyncio.gather(first, second, third) == [("a", 0), ("a", 1), ("b", 1)]
    assert store.reads == [["a"], ["a", "b"]]


async def test_reads_are_bounded() -> None:
    store = Store()
    reads = SharedReads(store.read, most=3)

    answers = await asyncio.gather(*(reads.get(str(number)) for number in range(8)))

    assert [answer[0] for answer in answers if answer] == [str(number) for number in range(8)]
    assert [len(keys) for keys in store.reads] == [3, 3, 2]


async def test_a_failure_is_told_to_everybody_and_the_next_read_is_another() -> None:
    store = Store()
    reads = SharedReads(store.read, most=100)
    store.failure = ValueError("away")
    answers = await asyncio.gather(reads.get("a"), reads.get("a"), reads.get("b"), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["away"] * 3

    store.failure = None
    assert await reads.get("a") == ("a", 0)


async def test_who_gives_up_disturbs_nobody() -> None:
    store = Store()
    reads = SharedReads(store.read, most=100)
    store.gate.clear()
    leaving, staying = asyncio.create_task(reads.get("a")), asyncio.create_task(reads.get("a"))
    await settled()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    store.gate.set()

    assert await staying == ("a", 0)
    assert await reads.get("b") == ("b", 0)
