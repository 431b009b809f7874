"""Which metrics and log entries a reader wants."""

from typing import Any

import pytest

from services.common.errors import InvalidArgument
from services.task_manager.domain.metric_names import MetricNames
from services.task_manager.log_selection import wants_entries
from services.task_manager.stream_messages import metrics_response, wants_events, wants_logs, wants_metrics
from services.task_manager.watch import Events
from tunesmith.v1 import task_event_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

WARNING = task_event_pb2.LogEntry.WARNING
ENTRY = task_event_pb2.LogEntry(severity=WARNING, rank=1, text="Loss is ÜBER 9")


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ([], {"loss", "eval_loss", "eval_accuracy"}),
        (["loss"], {"loss"}),
        (["eval_*"], {"eval_loss", "eval_accuracy"}),
        (["loss", "eval_a*"], {"loss", "eval_accuracy"}),
        (["*"], {"loss", "eval_loss", "eval_accuracy"}),
        (["*loss"], set()),
    ],
)
def test_metrics_are_selected_by_name_or_beginning(names: list[str], kept: set[str]) -> None:
    everything = ("loss", "eval_loss", "eval_accuracy")
    assert {name for name in everything if name in MetricNames(names)} == kept
    event = task_event_pb2.TaskEvent(step_metrics=task_event_pb2.StepMetrics(step=1, values=dict.fromkeys(everything, 1.0)))
    assert wants_metrics(names)(event) is bool(kept)
    assert set(metrics_response(names)(Events([event])).points[0].values) == kept


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({}, True),
        ({"min_severity": WARNING}, True),
        ({"min_severity": task_event_pb2.LogEntry.ERROR}, False),
        ({"ranks": [0, 1]}, True),
        ({"ranks": [0]}, False),
        ({"contains": "über"}, True),
        ({"contains": "under"}, False),
        ({"pattern": "is .* \\d$"}, True),
        ({"pattern": "^is"}, False),
        ({"pattern": "Loss", "contains": "loss", "ranks": [1], "min_severity": WARNING}, True),
        ({"pattern": "Loss", "contains": "loss", "ranks": [2]}, False),
    ],
)
def test_every_condition_on_a_log_entry_must_hold(wanted: dict[str, Any], fits: bool) -> None:
    event = task_event_pb2.TaskEvent(log_entry=ENTRY)
    assert wants_entries(api.LogFilter(**wanted))(ENTRY) is fits
    assert wants_logs(api.StreamLogsRequest(**wanted))(event) is fits
    assert wants_events(api.ListEventsRequest(logs=api.LogFilter(**wanted)))(event) is fits


def test_a_filter_of_logs_leaves_other_events_alone() -> None:
    other = task_event_pb2.TaskEvent(anomaly=task_event_pb2.Anomaly(reason="r"))
    assert wants_events(api.ListEventsRequest(logs=api.LogFilter(contains="x")))(other)
    assert not wants_logs(api.StreamLogsRequest())(other)


@pytest.mark.parametrize(
    ("wanted", "field", "message"),
    [({"pattern": "(a"}, "logs.pattern", "missing )"), ({"contains": "x" * 1001}, "logs.contains", "1001 characters")],
)
def test_a_bad_filter_is_named(wanted: dict[str, str], field: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        wants_events(api.ListEventsRequest(logs=api.LogFilter(**wanted)))
    (violation,) = caught.value.violations
    assert violation.field == field
    assert message in violation.description
