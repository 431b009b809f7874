"""Rounds of upkeep."""

import asyncio
import datetime
from collections.abc import Sequence

from services.common.errors import ServiceError
from services.inference.upkeep import Upkeep

HOUR = datetime.timedelta(hours=1)


class Models:
    """Notes what it is told; the first pin fails. `enough` is set once `count` calls have come."""

    def __init__(self, count: int) -> None:
        self.calls: list[object] = []
        self.enough = asyncio.Event()
        self._count = count

    async def pin(self, models: Sequence[str]) -> None:
        self._note(tuple(models))
        if len(self.calls) == 1:
            raise ServiceError("STORAGE_UNAVAILABLE", "away")

    async def unload_idle(self, longest: datetime.timedelta) -> None:
        self._note(longest)

    async def keep_files(self) -> None:
        self._note("files")

    def _note(self, call: object) -> None:
        self.calls.append(call)
        if len(self.calls) == self._count:
            self.enough.set()


async def calls_of(count: int, pinned: Sequence[str], idle: datetime.timedelta, kind: type[Models] = Models) -> list[object]:
    models = kind(count)
    running = asyncio.create_task(Upkeep(models, pinned, idle, round_seconds=0).run())
    await asyncio.wait_for(models.enough.wait(), 10)
    running.cancel()
    return models.calls[:count]


async def test_every_round_pins_and_frees_and_a_failure_waits_for_the_next() -> None:
    assert await calls_of(6, ["tiny"], HOUR) == [("tiny",), HOUR, "files"] * 2


async def test_nothing_is_pinned_or_freed_unless_it_is_asked_for() -> None:
    assert await calls_of(4, [], HOUR) == [HOUR, "files"] * 2
    assert await calls_of(3, ["a", "b"], datetime.timedelta(0)) == [("a", "b"), "files", ("a", "b")]


class Broken(Models):
    """Fails at everything but the keeping of files, in ways that were foreseen and not."""

    async def pin(self, models: Sequence[str]) -> None:
        await super().pin(models)
        raise ServiceError("BASE_MODEL_NOT_FOUND", "there is no such model")

    async def unload_idle(self, longest: datetime.timedelta) -> None:
        await super().unload_idle(longest)
        raise RuntimeError("a bug")


async def test_what_fails_keeps_nothing_else_from_being_done() -> None:
    assert await calls_of(6, ["gone"], HOUR, Broken) == [("gone",), HOUR, "files"] * 2
