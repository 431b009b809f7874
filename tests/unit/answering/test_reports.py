"""What a run that asks models tells while it runs: everything the supervisor reads, seldom enough, and the outlook."""

import json
import os
from typing import Any

import pytest

from services.common.errors import ServiceError
from services.trainer.answering.reports import Progress, Reports
from services.trainer.training_events import LINE_LIMIT, parse


class Clock:
    """Goes on by itself, a second a look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


class Told:
    """Reads what was reported."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self.reports = Reports(self._writing)

    def lines(self) -> list[dict[str, Any]]:
        os.close(self._writing)
        with os.fdopen(self._reading, "rb") as pipe:
            lines = pipe.readlines()
        for line in lines:
            assert parse(line, 0).kind == json.loads(line)["kind"]
        return [json.loads(line) for line in lines]


@pytest.fixture
def told() -> Told:
    return Told()


def test_the_beginning_names_the_models_and_what_is_there_already(told: Told) -> None:
    told.reports.started(10, 3, ["a", "b"])
    expected = {"kind": "answering_started", "total_answers": 10, "resumed_answers": 3, "models": ["a", "b"]}
    assert told.lines() == [expected]


def test_every_answer_is_a_beat_and_few_are_told(told: Told) -> None:
    progress = Progress(told.reports, 1000, 0, lambda: 1.0)
    count = progress.counter("model_0", 0)
    for _ in range(1000):
        count()
    lines = told.lines()
    assert sum(line["kind"] == "beat" for line in lines) == 1000
    steps = [line["step"] for line in lines if line["kind"] == "metrics"]
    assert steps == list(range(5, 1001, 5))


def test_the_outlook_goes_by_the_answers_of_this_attempt(told: Told) -> None:
    progress = Progress(told.reports, 10, 6, Clock())
    first, second = progress.counter("model_0", 5), progress.counter("model_1", 1)
    first()
    second()
    metrics = [line for line in told.lines() if line["kind"] == "metrics"]
    # One answer a second; three, then two are left.
    assert [line["step"] for line in metrics] == [7, 8]
    assert [line["remaining_seconds"] for line in metrics] == [3.0, 2.0]
    assert metrics[-1]["values"] == {"model_0_answers": 6.0, "model_1_answers": 2.0, "answers": 8.0, "answers_per_second": 1.0}


def test_without_a_second_gone_there_is_no_pace(told: Told) -> None:
    Progress(told.reports, 1, 0, lambda: 5.0).counter("model_0", 0)()
    (metrics,) = [line for line in told.lines() if line["kind"] == "metrics"]
    assert "remaining_seconds" not in metrics
    assert "answers_per_second" not in metrics["values"]


def test_a_failure_is_one_line_however_long_its_message_is(told: Told) -> None:
    told.reports.failure(ServiceError("NOTHING_ANSWERED", "x" * 2_000_000, metadata={"reason": "y"}))
    (line,) = told.lines()
    assert (line["reason"], line["error_class"], line["metadata"]) == ("NOTHING_ANSWERED", "user", {"reason": "y"})
    assert len(json.dumps(line)) < LINE_LIMIT
    assert line["hint"]
