"""Equal works are one; a work outlives those who wait for it, and a failure reaches all of them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from services.storage import shared_work
from services.storage.shared_work import SharedWork


class Works:
    """Works that begin and end when a test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.open = asyncio.Event()

    def named(self, name: str, error: Exception | None = None) -> Callable[[], Coroutine[Any, Any, str]]:
        async def work() -> str:
            self.begun.append(name)
            await self.open.wait()
            if error:
                raise error
            self.ended.append(name)
            return name

        return work


async def started(*calls: Coroutine[Any, Any, str]) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(call) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def settled() -> None:
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


async def test_equal_works_are_one_and_others_run_beside_it() -> None:
    shared, works = SharedWork[str, str](), Works()
    tasks = await started(*(shared.of(key, works.named(key)) for key in ("a", "b", "a", "a")))
    assert works.begun == ["a", "b"]
    works.open.set()
    assert await asyncio.gather(*tasks) == ["a", "b", "a", "a"]


async def test_a_work_that_has_ended_is_begun_again() -> None:
    shared, works = SharedWork[str, str](), Works()
    works.open.set()
    assert [await shared.of("a", works.named("a")) for _ in range(2)] == ["a", "a"]
    assert works.begun == ["a", "a"]


async def test_it_goes_on_when_all_who_waited_are_gone() -> None:
    shared, works = SharedWork[str, str](), Works()
    tasks = await started(*(shared.of("a", works.named("a")) for _ in range(2)))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    (late,) = await started(shared.of("a", works.named("never begun")))
    works.open.set()
    assert await late == "a"
    assert works.begun == works.ended == ["a"]


async def test_one_who_stays_gets_the_answer_when_another_goes() -> None:
    shared, works = SharedWork[str, str](), Works()
    first, second = await started(*(shared.of("a", works.named("a")) for _ in range(2)))
    first.cancel()
    works.open.set()
    assert await second == "a"


async def test_a_failure_reaches_all_and_the_next_begins_anew() -> None:
    shared, works = SharedWork[str, str](), Works()
    tasks = await started(*(shared.of("a", works.named("a", ValueError("no"))) for _ in range(3)))
    works.open.set()
    assert [str(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == ["no"] * 3
    assert await shared.of("a", works.named("a")) == "a"


async def test_a_failure_that_nobody_waits_for_is_no_unhandled_one() -> None:
    shared, works = SharedWork[str, str](), Works()
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    (task,) = await started(shared.of("a", works.named("a", ValueError("no"))))
    task.cancel()
    works.open.set()
    await settled()
    assert unhandled == []


async def test_works_beyond_the_limit_end_with_their_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_work, "MAX_RUNNING", 1)
    shared, works = SharedWork[str, str](), Works()
    first, beyond = await started(shared.of("a", works.named("a")), shared.of("b", works.named("b")))
    assert sorted(works.begun) == ["a", "b"]
    first.cancel()
    beyond.cancel()
    works.open.set()
    await settled()
    assert works.ended == ["a"]
