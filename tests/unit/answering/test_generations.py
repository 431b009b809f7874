"""Generations with models that answer by a rule."""

import asyncio
import json
from pathlib import Path

import pytest

from services.common.errors import NotFound, ServiceError
from services.common.grading.sampling import Sampling
from services.trainer.answering.asking import Asker
from services.trainer.answering.config import GenerationConfig
from services.trainer.answering.generation import ANSWERS, GENERATED, generate
from services.trainer.answering.inference import Question
from services.trainer.evaluating.values import Answer
from tests.unit.answering.fake_models import FakeModels
from tests.unit.answering.scripted_runs import (
    TOO_LONG,
    Told,
    chat,
    generation,
    parity,
    run_generation,
    write,
)

pytestmark = pytest.mark.usefixtures("no_pauses")


def test_a_generation_answers_every_row_in_order(tmp_path: Path, data: Path) -> None:
    models = FakeModels(lambda _, messages: f"re: {messages[-1]['content']}", {4: [TOO_LONG]})
    outcome = run_generation(generation(tmp_path, data), models)
    rows = [json.loads(line) for line in (tmp_path / GENERATED).read_text().splitlines()]
    assert len(rows) == 19
    assert [row["messages"][-1]["content"] for row in rows[:4]] == ["re: q1", "re: q2", "re: q3", "re: q5"]
    assert [turn["role"] for turn in rows[0]["messages"]] == ["system", "user", "assistant"]
    failed = [json.loads(line) for line in (tmp_path / "output" / "failed.jsonl").read_text().splitlines()]
    assert failed == [{"row": 4, "reason": "CONTEXT_LENGTH_EXCEEDED", "message": "messages: too long"}]
    assert outcome.result == {
        "row_count": 20,
        "answered_count": 19,
        "failed_count": 1,
        "failed_rows": failed,
        "cut_count": 0,
        "completion_token_count": 57,
    }


def test_a_generation_tells_what_came_of_every_row_and_by_what_the_row_is_known(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    write(data, [chat("q1", label="first"), chat("q2", label=7), chat("q3")])
    run_generation(generation(tmp_path, data), FakeModels(lambda *_: "yes", {2: [TOO_LONG]}))
    answers = [json.loads(line) for line in (tmp_path / "output" / ANSWERS).read_text().splitlines()]
    said = {"text": "yes", "finish_reason": "STOP", "prompt_tokens": 5, "completion_tokens": 3}
    assert answers == [
        {"row": 1, "label": "first", **said},
        {"row": 2, "label": 7, "reason": "CONTEXT_LENGTH_EXCEEDED", "message": "messages: too long"},
        {"row": 3, **said},
    ]


@pytest.mark.parametrize(
    ("text", "what"), [("", "is empty"), (" \n", "is empty"), ("a\0b", "holds a NUL character")], ids=["none", "spaces", "nul"]
)
def test_an_answer_that_nobody_could_learn_is_a_failed_row(tmp_path: Path, data: Path, text: str, what: str) -> None:
    outcome = run_generation(generation(tmp_path, data, max_rows=1), FakeModels(lambda *_: text))
    assert outcome.result["failed_rows"] == [{"row": 1, "reason": "ANSWER_UNUSABLE", "message": f"the model's answer {what}"}]
    assert (tmp_path / GENERATED).read_text() == ""


class Stuck(FakeModels):
    """Never answers row 3."""

    async def ask(self, model: str, question: Question, sampling: Sampling) -> Answer:
        if question.row == 3:
            await asyncio.Event().wait()
        return await super().ask(model, question, sampling)


def run_cut_short(config: GenerationConfig) -> None:
    """Until all rows but the third are answered; then it is ended as by SIGTERM."""

    async def run() -> None:
        models = Stuck(parity, {2: [TOO_LONG]})
        asker = Asker(models, at_once=2, clock=lambda: 1.0)
        running = asyncio.ensure_future(generate(config, asker, Told(), lambda: 1.0))
        answers = config.answers / "model-0.jsonl"
        async with asyncio.timeout(20):
            while not (answers.exists() and answers.read_bytes().count(b"\n") == 20):  # noqa: ASYNC110 - a header, 19 answers
                await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())


def test_a_cancelled_generation_leaves_what_was_answered(tmp_path: Path, data: Path) -> None:
    (tmp_path / "cancel").touch()
    run_cut_short(generation(tmp_path, data))
    answers = [json.loads(line) for line in (tmp_path / "output" / ANSWERS).read_text().splitlines()]
    assert [each["row"] for each in answers] == [row for row in range(1, 21) if row != 3]
    assert (answers[0]["text"], answers[1]["reason"]) == ("odd", "CONTEXT_LENGTH_EXCEEDED")
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["kind"], result["step"]) == ("GENERATION", 19)
    counts = result["generation"]
    assert (counts["row_count"], counts["answered_count"], counts["failed_count"]) == (20, 18, 1)


class Away(FakeModels):
    """Loads for ever."""

    async def load(self, model: str) -> str:
        await asyncio.Event().wait()
        return model


def run_cut_short_before_a_question(config: GenerationConfig) -> None:
    """Ended as by SIGTERM while the inference service is away."""

    async def run() -> None:
        asker = Asker(Away(parity), at_once=2, clock=lambda: 1.0)
        running = asyncio.ensure_future(generate(config, asker, Told(), lambda: 1.0))
        for _ in range(3):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())


def test_a_generation_that_is_cancelled_before_it_could_go_on_leaves_what_was_answered(tmp_path: Path, data: Path) -> None:
    config = generation(tmp_path, data)
    run_cut_short(config)
    run_cut_short_before_a_question(config)
    assert not (tmp_path / "result.json").exists()
    (tmp_path / "cancel").touch()
    run_cut_short_before_a_question(config)
    assert json.loads((tmp_path / "result.json").read_text())["generation"]["answered_count"] == 18


@pytest.mark.parametrize("begun", [None, b"", b'{"mod', b'{"model": "loaded/base"}\n'], ids=["none", "empty", "cut", "no answer"])
def test_where_nothing_was_answered_nothing_is_left(tmp_path: Path, data: Path, begun: bytes | None) -> None:
    config = generation(tmp_path, data)
    (tmp_path / "cancel").touch()
    config.answers.mkdir()
    if begun is not None:
        (config.answers / "model-0.jsonl").write_bytes(begun)
    run_cut_short_before_a_question(config)
    assert not (tmp_path / "result.json").exists()


def test_a_generation_that_is_only_paused_leaves_no_result(tmp_path: Path, data: Path) -> None:
    run_cut_short(generation(tmp_path, data))
    assert not (tmp_path / "result.json").exists()
    assert not (tmp_path / "output").exists()


def test_a_generation_goes_on_where_it_stopped(tmp_path: Path, data: Path) -> None:
    config = generation(tmp_path, data)
    with pytest.raises(ServiceError):
        run_generation(config, FakeModels(parity, {15: [NotFound("MODEL_NOT_FOUND", "x")]}))
    models = FakeModels(parity)
    run_generation(config, models)
    assert 0 < len(models.asked) < 20
    rows = [json.loads(line) for line in (tmp_path / GENERATED).read_text().splitlines()]
    assert [row["messages"][1]["content"] for row in rows] == [f"q{n}" for n in range(1, 21)]
