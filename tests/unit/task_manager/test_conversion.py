"""The edges lose nothing: every field of the messages survives the way to the domain's values and back."""

import dataclasses
import datetime
from typing import Any

import pytest
from task_values import NOW, a_task

from services.common.catalogue import CATALOGUE
from services.task_manager import conversion, spec_conversion, stream_messages
from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import Hyperparameters, Lora, Preference
from services.task_manager.domain.progress import Progress
from services.task_manager.domain.task import Change, Snapshot, State
from services.task_manager.watch import End, Events, Header, Idle
from tunesmith.v1 import task_error_pb2, task_event_pb2, task_pb2, task_spec_pb2

EVERY = Hyperparameters(
    1.5,
    2,
    0.5,
    4,
    1,
    4,
    "linear",
    0.25,
    3,
    0.125,
    2.0,
    64,
    7,
    5,
    6,
    9,
    30.5,
    3,
    "bf16",
    2,
    1,
    "{}",
    "skip",
    4,
    "always",
    True,
    "fail",
    2,
    0.25,
    60.5,
    Lora(8, 4.0, 0.5, ("q_proj",), True, True),
    Preference(0.2, 0.1, True, 0.5, 2.0, 3.0),
)


def draft_of(hyperparameters: task_spec_pb2.Hyperparameters) -> FineTuning:
    return spec_conversion.fine_tuning_from_proto(task_spec_pb2.FineTuning(hyperparameters=hyperparameters))


def test_the_value_has_every_field_of_the_message() -> None:
    for cls, message in (
        (Hyperparameters, task_spec_pb2.Hyperparameters),
        (Lora, task_spec_pb2.Lora),
        (Preference, task_spec_pb2.Preference),
    ):
        assert {field.name for field in dataclasses.fields(cls)} == set(message.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("values", [Hyperparameters(), EVERY, Hyperparameters(seed=0, weight_decay=0.0, zero_stage=0)])
def test_hyperparameters_survive_both_ways_and_unset_stays_unset(values: Hyperparameters) -> None:
    assert draft_of(spec_conversion.hyperparameters_to_proto(values)).hyperparameters == values


@pytest.mark.parametrize("method", ["SFT", "DPO", "KTO", "ORPO", "CPT", "CLASSIFICATION"])
@pytest.mark.parametrize("tuning", ["LORA", "FULL", "QLORA"])
def test_methods_and_tunings_are_read_and_stored_by_name(method: str, tuning: str) -> None:
    spec = task_spec_pb2.TaskSpec(fine_tuning=task_spec_pb2.FineTuning(method=method, tuning=tuning))  # type: ignore[arg-type]

    ask = spec_conversion.fine_tuning_from_proto(spec.fine_tuning)

    assert (ask.method, ask.tuning) == (method, tuning)
    stored = task_spec_pb2.TaskSpec.FromString(spec_conversion.spec_to_store(spec, ask)).fine_tuning
    assert (stored.method, stored.tuning) == (spec.fine_tuning.method, spec.fine_tuning.tuning)


def test_a_group_of_which_nothing_is_set_is_not_in_the_message() -> None:
    message = spec_conversion.hyperparameters_to_proto(Hyperparameters(seed=1))

    assert not message.HasField("lora")
    assert not message.HasField("preference")


@pytest.mark.parametrize(("number", "known"), [(0, True), (1, True), (77, False)])
def test_methods_and_tunings_of_a_newer_client_are_not_taken_for_known(number: int, known: bool) -> None:
    ask = task_spec_pb2.FineTuning(method=number, tuning=number)  # type: ignore[arg-type]

    found = spec_conversion.fine_tuning_from_proto(ask)

    assert (found.method_known, found.tuning_known) == (known, known)


@pytest.mark.parametrize("state", State)
def test_states_survive_both_ways(state: State) -> None:
    assert conversion.state_from_proto(conversion.state_to_proto(state)) is state


@pytest.mark.parametrize("number", [0, 99])
def test_a_state_that_is_not_known_is_none(number: int) -> None:
    assert conversion.state_from_proto(number) is None


def test_what_a_task_does_not_have_is_absent() -> None:
    message = conversion.task_to_proto(a_task())

    assert message.name == "tasks/00000000-0000-0000-0000-000000000005"
    for field in ("progress", "error", "start_time", "end_time"):
        assert not message.HasField(field)


def test_what_a_task_has_is_shown() -> None:
    error = conversion.make_error("RUN_LOST", "gone")
    progress = Progress(2, 4, 0.5, datetime.timedelta(seconds=3), {"loss": 1.25})
    message = conversion.task_to_proto(a_task(state=State.FAILED, error=error, progress=progress, start_time=NOW, end_time=NOW))

    assert message.error.reason == "RUN_LOST"
    assert message.end_time.ToDatetime(datetime.UTC) == NOW
    assert (message.progress.step, message.progress.remaining.seconds, dict(message.progress.metrics)) == (2, 3, {"loss": 1.25})


@pytest.mark.parametrize("reason", sorted(CATALOGUE))
def test_every_reason_makes_an_error_with_class_and_hint(reason: str) -> None:
    error = task_error_pb2.TaskError.FromString(conversion.make_error(reason, "m"))

    assert error.error_class != task_error_pb2.ERROR_CLASS_UNSPECIFIED
    assert error.hint == CATALOGUE[reason].hint


def test_a_change_becomes_an_event() -> None:
    event = conversion.state_change_event(4, NOW, 2, State.RUNNING, Change(State.QUEUED, "lost"))

    assert (event.sequence, event.attempt, event.time.ToDatetime(datetime.UTC)) == (4, 2, NOW)
    assert (event.state_change.from_state, event.state_change.to_state) == (task_pb2.Task.RUNNING, task_pb2.Task.QUEUED)
    assert not event.state_change.HasField("error")


SNAPSHOT = Snapshot(State.SUCCEEDED, 2, 1, 9, None, "artifacts/a")
ITEMS = [(Header(SNAPSHOT), "header"), (Idle(9, NOW), "heartbeat"), (End(SNAPSHOT), "end"), (Events([]), None)]


@pytest.mark.parametrize(("item", "control"), ITEMS)
def test_all_three_streams_have_the_same_control_messages(item: Any, control: str | None) -> None:
    makers = (stream_messages.watch_response, stream_messages.metrics_response([]), stream_messages.logs_response)

    assert [make(item).WhichOneof("control") for make in makers] == [control] * 3


def test_kinds_of_a_newer_client_select_nothing_and_unspecified_selects_all() -> None:
    event = task_event_pb2.TaskEvent(anomaly=task_event_pb2.Anomaly(reason="LOSS_NOT_FINITE"))

    assert not stream_messages.wants_kinds([99])(event)
    assert stream_messages.wants_kinds([0])(event)
    assert stream_messages.wants_kinds([task_event_pb2.TaskEvent.ANOMALY])(event)


@pytest.mark.parametrize("kind", [kind for kind in task_event_pb2.TaskEvent.Kind.values() if kind])
def test_every_kind_selects_its_own_field(kind: int) -> None:
    name = task_event_pb2.TaskEvent.Kind.DESCRIPTOR.values_by_number[kind].name.lower()
    event = task_event_pb2.TaskEvent()
    getattr(event, name).SetInParent()

    assert stream_messages.wants_kinds([kind])(event)
    others = [other for other in task_event_pb2.TaskEvent.Kind.values() if other not in (0, kind)]
    assert not stream_messages.wants_kinds(others)(event)
