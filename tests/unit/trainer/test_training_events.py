"""The events pipe is checked: good lines become events, everything else is named and dropped."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.catalogue import CATALOGUE
from services.trainer import conversion, training_events
from services.trainer.journal import EVENT_KINDS
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


def test_an_anomaly_has_reason_message_step_and_what_the_catalogue_advises() -> None:
    fields = parse(line(kind="anomaly", reason="LOSS_SPIKE", message="m\0", step=2, more=1, rows=[3, 4]), 1).fields
    common = {"reason": "LOSS_SPIKE", "message": "m\ufffd", "step": 2, "rank": -1, "rows": [3, 4]}
    assert fields == common | {"suggestion": CATALOGUE["LOSS_SPIKE"].hint}


def test_an_anomalys_own_advice_goes_first_and_an_unknown_reason_has_none() -> None:
    assert parse(line(kind="anomaly", reason="LOSS_SPIKE", suggestion="do this"), 0).fields["suggestion"] == "do this"
    assert parse(line(kind="anomaly", reason="R"), 0).fields["suggestion"] == ""


def test_no_more_than_64_rows_are_kept() -> None:
    assert parse(line(kind="anomaly", reason="R", rows=list(range(1, 100))), 0).fields["rows"] == list(range(1, 65))


@pytest.mark.parametrize("rows", ["3", [0], [-1], ["3"], [True], [2**63], {"a": 1}], ids=str)
def test_rows_that_are_none_make_an_event_unreadable(rows: object) -> None:
    with pytest.raises(UnreadableEvent, match="rows"):
        parse(line(kind="anomaly", reason="R", rows=rows), 0)


@pytest.mark.parametrize("remaining", [None, -1, "soon", True, float("nan"), float("inf"), 1e300], ids=str)
def test_a_time_to_go_that_is_none_is_left_out(remaining: object) -> None:
    assert "remaining_seconds" not in parse(line(kind="metrics", step=1, values={}, remaining_seconds=remaining), 0).fields


def test_a_sample_and_a_sign_of_life() -> None:
    sample = parse(line(kind="sample_generated", step=3, index=1, prompt="p", text="t", truncated=True), 0)
    assert sample.fields == {"step": 3, "index": 1, "prompt": "p", "text": "t", "truncated": True}
    assert parse(line(kind="beat", step=3), 2).fields == {"step": 3, "phase": "", "rank": 2}


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


def test_every_kind_that_ranks_report_can_be_written_down_and_shown() -> None:
    reported = set(training_events._PARSERS) - {"failure", "beat"}
    assert reported <= EVENT_KINDS == set(conversion._EVENTS)
