"""Equal keys wait for each other, others do not, and nothing is remembered."""

import asyncio

import pytest

from services.storage.keyed_locks import KeyedLocks


async def test_equal_keys_exclude_each_other_and_others_do_not() -> None:
    locks: KeyedLocks[str] = KeyedLocks()
    inside: list[str] = []
    most: dict[str, int] = {}
    met = asyncio.Event()

    async def use(key: str) -> None:
        async with locks.of(key):
            inside.append(key)
            most[key] = max(most.get(key, 0), inside.count(key))
            if len(set(inside)) == 2:
                met.set()
            await met.wait()
            inside.remove(key)

    await asyncio.gather(*(use(key) for key in "aabb"))
    assert most == {"a": 1, "b": 1}
    assert locks._locks == {}


async def test_a_failure_frees_the_key() -> None:
    locks: KeyedLocks[str] = KeyedLocks()
    with pytest.raises(ValueError, match="broken"):
        async with locks.of("a"):
            raise ValueError("broken")
    async with asyncio.timeout(5), locks.of("a"):
        pass
