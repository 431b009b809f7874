"""The order of questions, what happens to those nobody waits for, and the engine that comes late."""

import asyncio
import datetime
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inference_fakes import FakeArtifacts, FakeBundles, FakeEngine
from tiny_model import END, tiny_tokenizer

from services.common.bundles import Bundle
from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest
from services.inference.generation import Ending, Piece
from services.inference.host import ModelHost
from services.inference.question import Message, Question
from services.inference.registry import Registry
from services.inference.resolver import Resolver
from services.inference.scheduler import Limits, Scheduler
from services.inference.spare import Spare
from services.inference.worker import Worker

END_ID = tiny_tokenizer().token_to_id(END)


class Held:
    """A script that does not go on before it is released, and tells when it was asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.released = threading.Event()

    def __call__(self, request: GenerationRequest) -> Iterator[int]:
        self.asked.set()
        assert self.released.wait(20)
        yield from itertools.repeat(END_ID)


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.released.set()


@pytest.fixture
def engine(held: Held) -> FakeEngine:
    return FakeEngine(held)


@pytest.fixture
def host(engine: FakeEngine, model_directory: Path) -> Iterator[ModelHost]:
    names = ("baseModels/tiny", "baseModels/other")
    bundles = FakeBundles(*(Bundle(name, model_directory, name, "r1") for name in names))
    with Worker("engine") as worker:
        yield ModelHost(
            resolver=Resolver(bundles, FakeArtifacts()),
            worker=worker,
            scheduler=Scheduler(worker, engine, Limits(rows=1, tokens=10_000)),
            max_questions=6,
            registry=Registry(engine, max_bytes=150_000, now=lambda: datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
            new_seed=itertools.count(100).__next__,
        )


def question(max_tokens: int, seed: int | None = None) -> Question:
    return Question("tiny", (Message("user", "Hello"),), max_tokens=max_tokens, seed=seed)


async def answered(host: ModelHost, asked: Question, cancelled: threading.Event | None = None) -> list[Piece]:
    return [piece async for piece in host.answer(asked, cancelled or threading.Event())]


async def test_questions_are_answered_in_the_order_they_came(host: ModelHost, engine: FakeEngine, held: Held) -> None:
    tasks = [asyncio.create_task(answered(host, question(number))) for number in range(1, 6)]
    await asyncio.to_thread(held.asked.wait, 20)
    held.released.set()
    await asyncio.gather(*tasks)
    assert [request.max_tokens for request in engine.requests] == [1, 2, 3, 4, 5]


async def test_a_question_cancelled_while_it_waits_never_reaches_the_engine(
    host: ModelHost, engine: FakeEngine, held: Held
) -> None:
    first = asyncio.create_task(answered(host, question(1)))
    await asyncio.to_thread(held.asked.wait, 20)
    left, ended = asyncio.create_task(answered(host, question(2))), threading.Event()
    called_off = asyncio.create_task(answered(host, question(3), ended))
    await asyncio.sleep(0)
    left.cancel()
    ended.set()
    await asyncio.gather(left, return_exceptions=True)
    held.released.set()
    assert isinstance((await first)[-1], Ending)
    assert await called_off == []
    assert [request.max_tokens for request in engine.requests] == [1]


async def test_questions_beyond_the_limit_are_refused_and_those_before_them_answered(host: ModelHost, held: Held) -> None:
    tasks = [asyncio.create_task(answered(host, question(1))) for _ in range(6)]
    await asyncio.to_thread(held.asked.wait, 20)
    with pytest.raises(ServiceError) as refused:
        await answered(host, question(1))
    assert (refused.value.reason, refused.value.status) == ("TOO_MANY_QUESTIONS", "RESOURCE_EXHAUSTED")
    held.released.set()
    assert all(isinstance(pieces[-1], Ending) for pieces in await asyncio.gather(*tasks))
    assert isinstance((await answered(host, question(1)))[-1], Ending)


async def test_a_model_that_answers_cannot_be_unloaded_and_one_that_needs_its_room_waits(host: ModelHost, held: Held) -> None:
    first = asyncio.create_task(answered(host, question(1)))
    await asyncio.to_thread(held.asked.wait, 20)
    loading = asyncio.create_task(host.load("other"))
    unloading = asyncio.create_task(host.unload("tiny"))
    held.released.set()
    with pytest.raises(ServiceError) as refused:
        await unloading
    assert refused.value.reason == "MODEL_IN_USE"
    await first
    assert (await asyncio.wait_for(loading, 20)).name == "baseModels/other"
    assert [loaded.name for loaded in host.loaded()] == ["baseModels/other"]


async def test_who_gives_up_while_a_model_waits_for_room_holds_nothing_up(host: ModelHost, held: Held) -> None:
    first = asyncio.create_task(answered(host, question(2)))
    await asyncio.to_thread(held.asked.wait, 20)
    waiting = asyncio.create_task(host.load("other"))
    second = asyncio.create_task(answered(host, question(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    held.released.set()
    assert isinstance((await first)[-1], Ending)
    assert isinstance((await asyncio.wait_for(second, 20))[-1], Ending)
    assert [loaded.name for loaded in host.loaded()] == ["baseModels/tiny"]


async def test_without_a_seed_every_answer_gets_one_of_its_own(host: ModelHost, engine: FakeEngine, held: Held) -> None:
    held.released.set()
    for seed in (None, None, 5):
        await answered(host, question(1, seed))
    assert [request.sampling.seed for request in engine.requests] == [100, 101, 5]


async def test_the_time_to_the_first_token_includes_the_wait(host: ModelHost, held: Held) -> None:
    first = asyncio.create_task(answered(host, question(1)))
    await asyncio.to_thread(held.asked.wait, 20)
    second = asyncio.create_task(answered(host, question(2)))
    await asyncio.sleep(0)  # it has been asked now
    begin = time.monotonic()
    await asyncio.sleep(0.05)
    waited = time.monotonic() - begin
    held.released.set()
    await first
    ending = (await second)[-1]
    assert isinstance(ending, Ending)
    assert ending.seconds_to_first_token >= waited


async def test_files_of_what_is_in_memory_are_kept(host: ModelHost, model_directory: Path) -> None:
    bundles = host._resolver._bundles
    assert isinstance(bundles, FakeBundles)
    await host.keep_files()
    await host.load("tiny")
    await host.keep_files()
    assert bundles.kept == [set(), {str(model_directory)}]


async def test_what_is_too_large_to_be_loaded_ahead_is_not_even_fetched(host: ModelHost) -> None:
    bundles, artifacts = host._resolver._bundles, host._resolver._artifacts
    assert isinstance(bundles, FakeBundles)
    assert isinstance(artifacts, FakeArtifacts)
    host._registry._spare = Spare(10**6)
    artifacts.weights = {"baseModels/tiny": 10**6 + 1}
    bundles.failure = AssertionError("files were asked for")  # type: ignore[assignment]
    with pytest.raises(ServiceError, match=r"baseModels/tiny is not loaded ahead: it takes 1,000,001 bytes") as refused:
        await host.load("tiny", ahead=True)
    assert refused.value.reason == "NOT_LOADED_AHEAD"
    bundles.failure = None
    loaded = await host.load("tiny")
    assert (await host.load("tiny", ahead=True)).name == loaded.name
    artifacts.weights = {"baseModels/other": 10**6}
    await host.unload("tiny")
    assert (await host.load("other", ahead=True)).name == "baseModels/other"


def pinned(host: ModelHost) -> set[str]:
    return {loaded.name for loaded in host.loaded() if loaded.pinned}


async def test_a_name_that_stands_for_nothing_keeps_no_other_from_being_pinned(host: ModelHost) -> None:
    with pytest.raises(ServiceError) as refused:
        await host.pin(["unknown", "tiny"])
    assert (refused.value.reason, pinned(host)) == ("BASE_MODEL_NOT_FOUND", {"baseModels/tiny"})


async def test_what_is_pinned_stays_so_while_storage_is_away(host: ModelHost) -> None:
    bundles = host._resolver._bundles
    assert isinstance(bundles, FakeBundles)
    await host.pin(["tiny"])
    bundles.failure = ServiceError("STORAGE_UNAVAILABLE", "away")
    with pytest.raises(ServiceError, match="away"):
        await host.pin(["tiny"])
    assert pinned(host) == {"baseModels/tiny"}
    bundles.failure = None
    await host.pin([])
    assert pinned(host) == set()
