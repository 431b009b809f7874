"""Many questions at once: how often each is asked, what ends the run, what is waited for, and how long."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.errors import InvalidArgument, NotFound, ServiceError, Unavailable, Violation
from services.common.grading.sampling import Sampling
from services.trainer.answering import asking
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.asking import Asker
from services.trainer.answering.inference import Question
from services.trainer.evaluating.turns import spoken
from services.trainer.evaluating.values import Answer
from tests.unit.answering.fake_models import FakeModels

AWAY = Unavailable("INFERENCE_UNAVAILABLE", "it is away")
BUSY = ServiceError("TOO_MANY_QUESTIONS", "256 questions wait")
BROKEN = ServiceError("INTERNAL", "the engine failed")
GONE = NotFound("MODEL_NOT_FOUND", "models/x", message="models/x is gone")
BAD = InvalidArgument(Violation("messages", "too long"), reason="CONTEXT_LENGTH_EXCEEDED")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited; no time passes."""
    waited: list[float] = []
    sleep = asyncio.sleep

    async def instead(seconds: float) -> None:
        if seconds:
            waited.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asking.asyncio, "sleep", instead)
    return waited


@pytest.fixture
def file(tmp_path: Path):
    with AnswerFile.open(tmp_path / "answers.jsonl", "m") as opened:
        yield opened


def questions(*rows: int) -> list[Question]:
    return [Question(row, [spoken("user", f"q{row}"), spoken("assistant", f"a{row}")]) for row in rows]


def asker(models: FakeModels, *, at_once: int = 4, clock: Callable[[], float] = lambda: 0.0) -> Asker:
    return Asker(models, at_once=at_once, clock=clock)


async def answer(models: FakeModels, file: AnswerFile, *rows: int, at_once: int = 4) -> int:
    """How often it was told that there is one more."""
    told = []
    await asker(models, at_once=at_once).answer("m", questions(*rows), file, Sampling(), lambda: told.append(1))
    return len(told)


def echo(model: str, messages) -> str:
    return f"{model}: {messages[0]['content']}"


async def test_each_question_has_one_answer_and_is_told_once(file: AnswerFile) -> None:
    models = FakeModels(echo)
    assert await answer(models, file, *range(1, 31)) == 30
    assert sorted(row for _, row in models.asked) == list(range(1, 31))
    assert [file[row].text for row in (1, 30)] == ["m: q1", "m: q30"]


async def test_an_answer_that_has_arrived_is_kept_when_another_question_ends_the_run(file: AnswerFile) -> None:
    loop, disk_is_back = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    loop.run_in_executor(None, disk_is_back.wait)
    run = asyncio.create_task(answer(FakeModels(echo, {2: [GONE]}), file, 1, 2, at_once=2))
    await asyncio.wait([run], timeout=0.05)
    disk_is_back.set()
    with pytest.raises(NotFound, match="models/x is gone"):
        await run
    assert file[1].text == "m: q1"


@pytest.mark.parametrize("at_once", [1, 3, 8])
async def test_no_more_are_asked_at_once_than_permitted(file: AnswerFile, at_once: int) -> None:
    models = FakeModels(echo)
    await answer(models, file, *range(1, 21), at_once=at_once)
    assert models.most_at_once == at_once


async def test_what_has_an_answer_is_neither_asked_nor_told(file: AnswerFile) -> None:
    file.append(Answer(2, "from before"))
    models = FakeModels(echo)
    assert await answer(models, file, 1, 2, 3) == 2
    assert sorted(row for _, row in models.asked) == [1, 3]
    assert file[2].text == "from before"


async def test_questions_are_read_as_they_are_needed(file: AnswerFile) -> None:
    read = []

    def stream():
        for question in questions(*range(1, 11)):
            read.append(question.row)
            yield question

    models = FakeModels(echo)

    def tell() -> None:
        # One for each of the two that ask, and those that were answered.
        assert len(read) <= len(models.asked) + 2

    await asker(models, at_once=2).answer("m", stream(), file, Sampling(), tell)
    assert read == list(range(1, 11))


async def test_known_answers_are_judged_in_the_same_way(file: AnswerFile, pauses: list[float]) -> None:
    models = FakeModels(echo, logprob=lambda _, messages: -float(messages[-1]["content"].removeprefix("a")))
    models.refuse_to_judge = {2: BAD}
    told = []
    await asker(models).judge("m", questions(1, 2, 3), file, lambda: told.append(1))
    assert [(file[row].logprob, file[row].reason) for row in (1, 2, 3)] == [
        (-1.0, ""),
        (0.0, "CONTEXT_LENGTH_EXCEEDED"),
        (-3.0, ""),
    ]
    assert (models.asked, len(told), pauses) == ([], 3, [])


async def test_what_concerns_a_row_is_its_answer_at_once(file: AnswerFile, pauses: list[float]) -> None:
    await answer(FakeModels(echo, {2: [BAD]}), file, 1, 2, 3)
    assert (file[2].reason, file[2].message, file[2].is_answered) == ("CONTEXT_LENGTH_EXCEEDED", "messages: too long", False)
    assert file[3].is_answered
    assert pauses == []


async def test_a_broken_engine_is_asked_three_times(file: AnswerFile, pauses: list[float]) -> None:
    await answer(FakeModels(echo, {1: [BROKEN] * 2, 2: [BROKEN] * 3}), file, 1, 2, at_once=1)
    assert (file[1].text, file[2].reason, file[2].message) == ("m: q1", "INTERNAL", "the engine failed")
    assert pauses == [0.2, 0.4, 0.2, 0.4]


async def test_what_passes_is_waited_for_longer_and_longer_up_to_a_limit(file: AnswerFile, pauses: list[float]) -> None:
    await answer(FakeModels(echo, {1: [AWAY, BUSY] * 5}), file, 1)
    assert file[1].text == "m: q1"
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0, 10.0]


async def test_what_passes_does_not_use_up_the_tries_of_a_broken_engine(file: AnswerFile, pauses: list[float]) -> None:
    await answer(FakeModels(echo, {1: [BROKEN, AWAY, AWAY, AWAY, BROKEN]}), file, 1)
    assert file[1].is_answered


@pytest.mark.parametrize("at_once", [1, 4])
async def test_a_model_that_is_gone_ends_everything_with_that_error_alone(file: AnswerFile, at_once: int) -> None:
    models = FakeModels(echo, {5: [GONE]})
    with pytest.raises(NotFound, match=r"models/x is gone"):
        await answer(models, file, *range(1, 40), at_once=at_once)
    assert len(models.asked) < 39
    assert 5 not in file


async def test_a_full_disk_ends_everything(file: AnswerFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Answer) -> None:
        raise OSError(28, "no room")

    monkeypatch.setattr(file, "append", full)
    with pytest.raises(OSError, match="no room"):
        await answer(FakeModels(echo), file, 1, 2, 3)


async def test_a_model_is_loaded_once_the_service_is_there(pauses: list[float]) -> None:
    assert await asker(FakeModels(echo, {0: [AWAY, BUSY, AWAY]})).load("m") == "loaded/m"
    assert pauses == [0.2, 0.4, 0.8]


@pytest.mark.parametrize("error", [GONE, BROKEN], ids=["gone", "broken"])
async def test_what_waiting_does_not_help_is_raised_at_once(pauses: list[float], error: ServiceError) -> None:
    with pytest.raises(ServiceError) as caught:
        await asker(FakeModels(echo, {0: [error]})).load("m")
    assert caught.value is error
    assert pauses == []


async def test_trouble_is_said_once_a_minute(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    now = iter([0.0, 0.0, 59.0, 60.0, 60.0, 119.0])

    def clock() -> float:
        return next(now)

    with caplog.at_level(logging.WARNING):
        await asker(FakeModels(echo, {0: [AWAY] * 4}), clock=clock).load("m")
    assert [record.getMessage() for record in caplog.records] == ["it is away; trying again until it works"] * 2


async def test_a_run_that_is_ended_asks_no_more(file: AnswerFile) -> None:
    models = FakeModels(echo, {row: [AWAY] * 10_000 for row in range(1, 9)})
    running = asyncio.ensure_future(answer(models, file, *range(1, 9)))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(file) == 0
