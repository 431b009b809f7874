"""Event records: one JSON object a line, short enough for a pipe to keep whole."""

import json
import math
import os

import pytest

from services.common.errors import ServiceError
from services.trainer.training.answer import Answer
from services.trainer.training.events import LINE_LIMIT, BeatSink, FdSink, NullSink


@pytest.fixture
def pipe():
    """A sink, and a function that closes it and returns the lines it wrote."""
    reader, writer = os.pipe()
    closed = []

    def read():
        os.close(writer)
        closed.append(True)
        with os.fdopen(reader, "rb") as lines:
            return lines.read().splitlines()

    yield FdSink(writer), read
    if not closed:
        os.close(writer)
        os.close(reader)


def test_records_are_one_json_object_a_line_in_order(pipe):
    sink, read = pipe
    sink.started({"total_steps": 3})
    sink.metrics(1, {"loss": 0.5})
    sink.metrics(1, {"loss": 0.5}, 2.5)
    sink.anomaly("LOSS_NOT_FINITE", "oh", 2, rows=(3, 4), suggestion="do this")
    sink.sample(2, Answer(1, "p", "t", truncated=False))
    sink.beat(2)
    sink.checkpoint_saved(2, "step-2", 99, {"loss": 0.5})
    assert [json.loads(line) for line in read()] == [
        {"kind": "training_started", "total_steps": 3},
        {"kind": "metrics", "step": 1, "values": {"loss": 0.5}},
        {"kind": "metrics", "step": 1, "values": {"loss": 0.5}, "remaining_seconds": 2.5},
        {"kind": "anomaly", "reason": "LOSS_NOT_FINITE", "message": "oh", "step": 2, "rows": [3, 4], "suggestion": "do this"},
        {"kind": "sample_generated", "step": 2, "index": 1, "truncated": False, "prompt": "p", "text": "t"},
        {"kind": "beat", "step": 2, "phase": ""},
        {"kind": "checkpoint_saved", "step": 2, "name": "step-2", "size_bytes": 99, "values": {"loss": 0.5}},
    ]


def test_numbers_that_are_not_finite_are_sent_as_they_are(pipe):
    sink, read = pipe
    sink.metrics(1, {"loss": math.nan, "grad_norm": math.inf})
    (line,) = read()
    assert b"NaN" in line
    assert b"Infinity" in line
    assert math.isnan(json.loads(line)["values"]["loss"])


def test_a_failure_carries_everything_a_task_error_needs(pipe):
    sink, read = pipe
    sink.failure(ServiceError("DATASET_UNUSABLE", "row 3 is long", metadata={"row": "3"}), 7)
    (line,) = read()
    assert json.loads(line) == {
        "kind": "failure",
        "reason": "DATASET_UNUSABLE",
        "message": "row 3 is long",
        "error_class": "user",
        "hint": "Mend the named row and upload the dataset again.",
        "step": 7,
        "metadata": {"row": "3"},
    }


@pytest.mark.parametrize("text", ["x" * 100_000, "\n\x00" * 50_000, "日本語🙂" * 20_000])
def test_the_longest_failure_still_fits_into_one_write(pipe, text):
    sink, read = pipe
    sink.failure(ServiceError("TRAINING_FAILED", text, metadata={"where": text}), 1)
    (line,) = read()
    assert len(line) < LINE_LIMIT
    assert json.loads(line)["message"].endswith("…")


@pytest.mark.parametrize("text", ["x" * 100_000, "\n\x00" * 50_000, "日本語🙂" * 20_000])
def test_the_longest_sample_and_the_longest_anomaly_fit_too(pipe, text):
    sink, read = pipe
    sink.sample(1, Answer(0, text, text, truncated=True))
    sink.anomaly("LOSS_SPIKE", text, 2**40, rows=range(10**15, 10**15 + 64), suggestion=text)
    assert [len(line) < LINE_LIMIT for line in read()] == [True, True]


def test_other_ranks_only_say_that_they_move(pipe):
    sink, read = pipe
    other = BeatSink(sink)
    other.started({})
    other.metrics(1, {}, 2.0)
    other.anomaly("LOSS_SPIKE", "oh", 1)
    other.sample(1, Answer(0, "p", "t", truncated=False))
    other.checkpoint_saved(1, "step-1", 2, {})
    other.beat(7, "end")
    assert [json.loads(line) for line in read()] == [{"kind": "beat", "step": 7, "phase": "end"}]


def test_the_null_sink_takes_everything_and_keeps_nothing():
    sink = NullSink()
    assert sink.started({}) is sink.metrics(1, {}) is sink.anomaly("LOSS_NOT_FINITE", "oh", 1) is None
    assert sink.checkpoint_saved(1, "step-1", 2, {}) is None
