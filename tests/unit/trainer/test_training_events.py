"""The events pipe is checked: good lines become events, everything else is named and dropped."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.training.events import FdSink
from services.trainer.training_events import UnreadableEvent, parse


def line(**value: object) -> bytes:
    return json.dumps(value).encode()


def test_metrics_keep_numbers_and_drop_what_was_not_measured() -> None:
    event = parse(line(kind="metrics", step=3, values={"loss": 1, "eval_loss": None, "flag": True, "name": "x"}), 0)
    assert (event.kind, event.fields) == ("metrics", {"step": 3, "values": {"loss": 1.0}})


def test_a_failure_remembers_its_rank() -> None:
    event = parse(line(kind="failure", reason="R", message="m", step=2, metadata={"n": 1}), 5)
    assert event.kind == "failure"
    expected = {"reason": "R", "message": "m", "error_class": "", "hint": "", "step": 2, "metadata": {"n": "1"}, "rank": 5}
    assert event.fields == expected


def test_an_anomaly_has_reason_message_and_step() -> None:
    assert parse(line(kind="anomaly", reason="R", message="m\0", step=2, more=1), 0).fields == {
        "reason": "R",
        "message": "m\ufffd",
        "step": 2,
    }


def test_a_saved_checkpoint_has_a_name_a_size_and_its_metrics() -> None:
    record = line(kind="checkpoint_saved", step=4, name="step-4", size_bytes=10, values={"loss": 1, "name": "x"})
    event = parse(record, 0)
    assert event.kind == "checkpoint_saved"
    assert event.fields == {"step": 4, "name": "step-4", "size_bytes": 10, "values": {"loss": 1.0}}


def test_a_start_says_where_it_continues() -> None:
    assert parse(line(kind="training_started", resumed_step=7), 0).fields["resumed_step"] == 7
    assert parse(line(kind="training_started"), 0).fields["resumed_step"] == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"7",
        b'"metrics"',
        b'["metrics"]',
        b"{}",
        b'{"kind": null}',
        b'{"kind": ["metrics"]}',
        b'{"kind": "log", "text": "forged"}',
        b'{"kind": "artifact_created"}',
        b'{"kind": "metrics", "step": 1}',
        b'{"kind": "metrics", "step": "1", "values": {}}',
        b'{"kind": "metrics", "step": -1, "values": {}}',
        b'{"kind": "metrics", "step": 1e400, "values": {}}',
        b'{"kind": "metrics", "step": NaN, "values": {}}',
        b'{"kind": "metrics", "step": 9223372036854775808, "values": {}}',
        b'{"kind": "training_started", "total_steps": []}',
        b"[" * 100_000,
    ],
)
def test_anything_else_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        parse(data, 0)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda part: st.lists(part) | st.dictionaries(st.text(), part)
    )
)
def test_no_value_breaks_the_parser(value: object) -> None:
    for kind in ("metrics", "training_started", "anomaly", "failure"):
        data = json.dumps({"kind": kind, "step": value, "values": value, "metadata": value, "reason": value}).encode()
        try:
            event = parse(data, 0)
        except UnreadableEvent:
            continue
        json.dumps(event.fields).encode()


def test_what_the_training_process_writes_is_readable(tmp_path) -> None:
    with (tmp_path / "pipe").open("wb", buffering=0) as file:
        sink = FdSink(file.fileno())
        sink.started({"total_steps": 4, "device": "cpu", "precision": "fp32"})
        sink.metrics(1, {"loss": float("nan")})
        sink.anomaly("LOSS_NOT_FINITE", "nan", 1)
    events = [parse(data, 0) for data in (tmp_path / "pipe").read_bytes().splitlines()]
    assert [event.kind for event in events] == ["training_started", "metrics", "anomaly"]
    assert events[0].fields["total_steps"] == 4
