"""Who is in the batch and when: order, limits, fairness, those who leave, and failures that stay with their request."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from inference_fakes import FakeEngine

from services.common.errors import ServiceError
from services.inference.engine import GenerationRequest, Written
from services.inference.scheduler import Limits, Scheduler, Seat
from services.inference.worker import Worker

BASES = ("baseModels/a", "baseModels/b")


class Recorder:
    """A Reader that keeps what it gets; wants as many tokens as its request, and calls `on_token` with each."""

    def __init__(self, wanted: int, on_token: Callable[[int], None] = lambda token: None) -> None:
        self.tokens: list[int] = []
        self.gone = False
        self.error: Exception | None = None
        self.ended = asyncio.Event()
        self._wanted = wanted
        self._on_token = on_token

    def take(self, token: Written) -> bool:
        self.tokens.append(token.id)
        self._on_token(token.id)
        if len(self.tokens) == self._wanted:
            self.ended.set()
        return len(self.tokens) == self._wanted

    def end(self, error: Exception | None) -> None:
        self.error = error
        self.ended.set()


def counting(request: GenerationRequest) -> Iterator[int]:
    """The script: the prompt's first token, and on from there."""
    return itertools.count(request.prompt[0])


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    (tmp_path / "model.safetensors").touch()
    engine = FakeEngine(counting)
    for base in BASES:
        engine.load_base(base, tmp_path)
    return engine


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    with Worker("engine") as worker:
        yield worker


def asked(count: int, *, first: int = 100, prompt: int = 1, base: str = BASES[0]) -> GenerationRequest:
    return GenerationRequest(base, None, tuple(range(first, first + prompt)), count)


class Hall:
    """A scheduler whose requests are entered one by one, each with a reader of its own."""

    def __init__(self, worker: Worker, engine: FakeEngine, **limits: int) -> None:
        self.scheduler = Scheduler(worker, engine, Limits(**{"rows": 8, "tokens": 10_000, **limits}))
        self.readers: list[Recorder] = []
        self.seats: list[Seat] = []

    def enter(self, request: GenerationRequest, on_token: Callable[[int], None] = lambda token: None) -> Recorder:
        self.readers.append(Recorder(request.max_tokens, on_token))
        self.seats.append(self.scheduler.enter(request, self.readers[-1]))
        return self.readers[-1]

    async def emptied(self) -> None:
        async with asyncio.timeout(20):
            for reader in self.readers:
                await reader.ended.wait()


def sizes(engine: FakeEngine) -> list[int]:
    return [len(tickets) for _, tickets in engine.steps]


async def test_all_that_fit_share_every_step_and_get_their_own_tokens(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine)
    for first in (100, 200, 300):
        hall.enter(asked(4, first=first))
    await hall.emptied()
    assert [reader.tokens for reader in hall.readers] == [[first + n for n in range(4)] for first in (100, 200, 300)]
    assert sizes(engine) == [3, 3, 3, 3]


async def test_no_more_rows_than_the_limit_and_the_next_takes_a_seat_as_soon_as_one_is_free(
    worker: Worker, engine: FakeEngine
) -> None:
    hall = Hall(worker, engine, rows=2)
    for count in (3, 1, 2, 1):
        hall.enter(asked(count))
    await hall.emptied()
    assert [tickets for _, tickets in engine.steps] == [(1, 2), (1, 3), (1, 3), (4,)]


async def test_rows_weigh_as_much_as_the_longest_and_nobody_overtakes(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine, tokens=40)
    hall.enter(asked(5, prompt=5))
    hall.enter(asked(4, prompt=26))
    hall.enter(asked(1, prompt=1))
    await hall.emptied()
    assert sizes(engine) == [1] * 10
    assert [tickets[0] for _, tickets in engine.steps] == [1] * 5 + [2] * 4 + [3]


async def test_one_that_is_too_long_for_the_limit_is_answered_alone(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine, tokens=10)
    reader = hall.enter(asked(2, prompt=50))
    await hall.emptied()
    assert len(reader.tokens) == 2


async def test_every_model_gets_a_step_before_any_gets_two(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine)
    for base in (BASES[0], BASES[1], BASES[0]):
        hall.enter(asked(3, base=base))
    await hall.emptied()
    assert [base for base, _ in engine.steps] == [BASES[0], BASES[1]] * 3


async def test_what_comes_while_others_run_joins_them(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine)

    def invite(token: int) -> None:
        if token == 101:
            hall.enter(asked(2, first=500))

    hall.enter(asked(5), invite)
    await hall.readers[0].ended.wait()
    await hall.emptied()
    assert sizes(engine) == [1, 1, 2, 2, 1]
    assert hall.readers[1].tokens == [500, 501]


async def test_one_who_is_gone_leaves_within_a_token_running_or_waiting(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine, rows=2)

    def call_off(token: int) -> None:
        hall.readers[0].gone = hall.readers[2].gone = True

    hall.enter(asked(100), call_off)
    hall.enter(asked(3, first=200))
    hall.enter(asked(100, first=300))
    await hall.emptied()
    assert [reader.tokens for reader in hall.readers] == [[100], [200, 201, 202], []]
    assert [reader.error for reader in hall.readers] == [None] * 3
    assert [request.prompt[0] for request in engine.requests] == [100, 200]
    await worker.run(lambda: None)
    assert engine.rows == {}


async def test_a_seat_can_be_given_up_at_any_time_and_twice(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine, rows=1)

    def leave(token: int) -> None:
        for seat in (*hall.seats, *hall.seats):
            hall.scheduler.leave(seat)

    first, second = hall.enter(asked(100), leave), hall.enter(asked(100))
    await worker.run(lambda: None)
    while hall.seats[0].ticket in engine.rows or not first.tokens:
        await worker.run(lambda: None)
    assert (first.tokens, second.tokens) == ([100], [])
    assert not first.ended.is_set()


async def test_one_row_that_fails_fails_alone(worker: Worker, engine: FakeEngine) -> None:
    def breaking(request: GenerationRequest) -> Iterator[int]:
        yield 1
        if request.prompt[0] == 200:
            raise ServiceError("GENERATION_FAILED", "the model failed")
        yield from itertools.repeat(2)

    engine.script = breaking
    hall = Hall(worker, engine)
    for first in (100, 200):
        hall.enter(asked(4, first=first))
    await hall.emptied()
    assert hall.readers[0].tokens == [1, 2, 2, 2]
    assert hall.readers[1].tokens == [1]
    assert getattr(hall.readers[1].error, "reason", "") == "GENERATION_FAILED"


async def test_a_step_that_fails_as_a_whole_ends_its_models_requests_and_no_others(worker: Worker, engine: FakeEngine) -> None:
    def broken(request: GenerationRequest) -> Iterator[int]:
        if request.base == BASES[0]:
            raise LookupError("a bug")
        return counting(request)

    engine.script = broken
    hall = Hall(worker, engine)
    for base in BASES:
        hall.enter(asked(3, base=base))
    await hall.emptied()
    assert isinstance(hall.readers[0].error, LookupError)
    assert hall.readers[1].tokens == [100, 101, 102]
    engine.script = counting
    again = hall.enter(asked(2))
    await hall.emptied()
    assert again.tokens == [100, 101]


@pytest.mark.parametrize("error", [ServiceError("ARTIFACT_UNUSABLE", "its files are gone"), ValueError("too long")])
async def test_one_that_the_engine_does_not_take_fails_alone(worker: Worker, engine: FakeEngine, error: Exception) -> None:
    def choosy(request: GenerationRequest) -> Iterator[int]:
        if request.prompt[0] == 200:
            raise error
        return counting(request)

    engine.script = choosy
    hall = Hall(worker, engine)

    def invite(token: int) -> None:
        if token == 100:
            hall.enter(asked(2, first=200))
            hall.enter(asked(2, first=300))

    hall.enter(asked(4), invite)
    await hall.readers[0].ended.wait()
    await hall.emptied()
    assert [reader.tokens for reader in hall.readers] == [[100, 101, 102, 103], [], [300, 301]]
    assert [reader.error for reader in hall.readers] == [None, error, None]


async def test_a_reader_that_fails_ends_its_own_request(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine)

    def broken(token: int) -> None:
        raise UnicodeError("no text")

    hall.enter(asked(3), broken)
    hall.enter(asked(3, first=200))
    await hall.emptied()
    assert isinstance(hall.readers[0].error, UnicodeError)
    assert hall.readers[1].tokens == [200, 201, 202]


async def test_other_work_of_the_thread_finds_its_place_between_two_steps(worker: Worker, engine: FakeEngine) -> None:
    stepping, asked_for, seen = threading.Event(), threading.Event(), list[int]()

    def script(request: GenerationRequest) -> Iterator[int]:
        stepping.set()
        assert asked_for.wait(20)
        yield from itertools.repeat(2)

    engine.script = script
    hall = Hall(worker, engine)
    hall.enter(asked(50))
    await asyncio.to_thread(stepping.wait, 20)
    work = asyncio.create_task(worker.run(lambda: seen.append(len(engine.steps))))
    await asyncio.sleep(0)
    asked_for.set()
    await work
    await hall.emptied()
    assert seen == [1]


async def test_an_idle_scheduler_has_no_task(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine)
    hall.enter(asked(1))
    await hall.emptied()
    async with asyncio.timeout(20):
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "scheduler"))
    assert sizes(engine) == [1]


async def test_who_leaves_while_another_model_writes_is_not_let_in_afterwards(worker: Worker, engine: FakeEngine) -> None:
    hall = Hall(worker, engine)
    first = hall.enter(asked(6, base=BASES[0]), on_token=lambda token: token == 100 and hall.scheduler.leave(hall.seats[1]))
    hall.enter(asked(6, base=BASES[1])).ended.set()
    await first.ended.wait()
    assert {base for base, tickets in engine.steps if tickets} == {BASES[0]}
    assert len(first.tokens) == 6
