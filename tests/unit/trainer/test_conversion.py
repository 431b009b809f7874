"""Protos in and out: every hyperparameter, every kind of event, every field of a failure."""

import dataclasses
import json
import math
import pathlib
import uuid

import pytest
from trainer_values import DATASET, NOW, TASK, VALIDATION, make_request, make_run

from services.common.bundles import Bundle
from services.common.errors import InvalidArgument
from services.trainer import conversion
from services.trainer.fetching import Fetching
from services.trainer.history import History
from services.trainer.hyperparameters import numbers as numbers_of
from services.trainer.kinds.fine_tuning import artifact_retention, training_config
from services.trainer.kinds.fine_tuning_ask import FineTuning, Source
from services.trainer.run import Failure, Request, State, Wish
from services.trainer.run_directory import RunDirectory
from services.trainer.training.config import Hyperparameters, Lora, Preference, TrainConfig
from tunesmith.v1 import task_error_pb2, task_event_pb2, task_pb2, task_spec_pb2


def ask_of(request: Request) -> FineTuning:
    assert isinstance(request.ask, FineTuning)
    return request.ask


def test_a_request_survives_the_disk() -> None:
    request = make_request()
    assert conversion.request_from_document(request.document) == request
    assert (request.epoch, request.num_processes, request.create_time) == (3, 2, NOW)
    assert (ask_of(request).sources, ask_of(request).validation_dataset) == ((Source(DATASET, 1.0),), "")
    assert (ask_of(request).validation_split_ratio, ask_of(request).is_composed) == (None, False)
    assert (ask_of(request).method, ask_of(request).tuning) == ("sft", "lora")


@pytest.mark.parametrize("seconds", [None, 3600, 30 * 86400])
def test_the_retention_of_a_task_goes_with_its_document(seconds: int | None) -> None:
    run = make_run()
    if seconds is not None:
        run.spec.fine_tuning.artifact_retention.FromSeconds(seconds)
    found = artifact_retention(conversion.request_from_proto(run, NOW).document)
    assert (found and found.seconds) == seconds


def test_a_mixture_and_a_split_survive_the_disk() -> None:
    run = make_run()
    tuning = run.spec.fine_tuning
    tuning.dataset = ""
    tuning.validation_split_ratio = 0.25
    tuning.mixture.add(dataset=DATASET, weight=2.5)
    tuning.mixture.add(dataset=VALIDATION)

    request = conversion.request_from_proto(run, NOW)

    assert conversion.request_from_document(request.document) == request
    assert ask_of(request).sources == (Source(DATASET, 2.5), Source(VALIDATION, 1.0))
    assert (ask_of(request).validation_split_ratio, ask_of(request).is_composed, ask_of(request).seed) == (0.25, True, 0)


@pytest.mark.parametrize(
    ("weights", "ratio", "composed"), [([1.0], None, False), ([1.0], 0.1, True), ([0.5], None, True), ([1.0, 1.0], None, True)]
)
def test_only_one_whole_dataset_needs_no_composing(weights: list[float], ratio: float | None, composed: bool) -> None:
    sources = tuple(Source(DATASET, weight) for weight in weights)

    assert dataclasses.replace(ask_of(make_request()), sources=sources, validation_split_ratio=ratio).is_composed == composed


@pytest.mark.parametrize(
    ("weight", "ratio", "field"),
    [
        (0.0, None, "mixture[0].weight"),
        (100.5, None, "mixture[0].weight"),
        (math.nan, None, "mixture[0].weight"),
        (1.0, 0.0, "validation_split_ratio"),
        (1.0, 0.6, "validation_split_ratio"),
        (1.0, math.nan, "validation_split_ratio"),
    ],
)
def test_weights_and_ratios_have_limits(weight: float, ratio: float | None, field: str) -> None:
    run = make_run()
    run.spec.fine_tuning.mixture.add(dataset=DATASET, weight=weight)
    if ratio is not None:
        run.spec.fine_tuning.validation_split_ratio = ratio

    with pytest.raises(InvalidArgument) as caught:
        conversion.request_from_proto(run, NOW)

    assert caught.value.violations[0].field == f"run.spec.fine_tuning.{field}"


def test_the_configuration_names_validation_data_of_either_kind(run: RunDirectory) -> None:
    bundle = Bundle("baseModels/tiny", run.path / "model", "baseModels/tiny", "r1")
    run.request = dataclasses.replace(run.request, ask=dataclasses.replace(ask_of(run.request), validation_split_ratio=0.1))

    assert training_config(run, bundle, None)["validation_file"] == str(run.validation_data)


def test_a_document_of_a_later_version_is_still_read() -> None:
    value = json.loads(make_request().document) | {"brand_new": {"x": 1}}
    assert conversion.request_from_document(json.dumps(value)).epoch == 3


@pytest.mark.parametrize("document", ["", "{", "[]", '{"epoch": "x"}'])
def test_a_broken_document_is_a_value_error(document: str) -> None:
    with pytest.raises(ValueError, match="not the proto JSON of a run"):
        conversion.request_from_document(document)


def test_what_is_unset_is_none_and_zero_is_zero() -> None:
    numbers = numbers_of(make_run().hyperparameters)
    assert (numbers["seed"], numbers["max_steps"], numbers["learning_rate"]) == (0, None, 0.5)
    unset = dict.fromkeys(("alpha", "dropout", "use_rslora", "use_dora"))
    assert numbers["lora"] == unset | {"rank": 4, "target_modules": ["q_proj"], "last_layers": 0}
    assert numbers["preference"] is None


def test_a_group_of_which_nothing_is_set_is_none_and_a_set_one_has_all_its_names() -> None:
    message = task_spec_pb2.Hyperparameters(preference=task_spec_pb2.Preference(beta=0.5, reference_free=False))
    numbers = numbers_of(message)
    assert numbers["lora"] is None
    assert set(numbers["preference"]) == {field.name for field in dataclasses.fields(Preference)}
    assert (numbers["preference"]["beta"], numbers["preference"]["reference_free"]) == (0.5, False)
    assert numbers["preference"]["label_smoothing"] is None


def test_a_run_without_a_number_of_processes_has_one() -> None:
    run = make_run()
    run.hyperparameters.ClearField("num_processes")
    assert conversion.request_from_proto(run, NOW).num_processes == 1


def test_the_configuration_has_exactly_the_keys_that_the_training_process_knows(run: RunDirectory) -> None:
    config = training_config(run, Bundle("baseModels/tiny", run.path / "model", "baseModels/tiny", "r1"), None)
    assert set(config) == {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(config["hyperparameters"]) == {field.name for field in dataclasses.fields(Hyperparameters)}
    assert set(config["hyperparameters"]["lora"]) == {field.name for field in dataclasses.fields(Lora)}
    assert config["validation_file"] is None
    json.dumps(config)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "runs/x"}, "run.name"),
        ({"task": "tasks/x"}, "run.name"),
        ({"attempt": 2}, "run.name"),
        ({"epoch": 0}, "run.epoch"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused(change: dict, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make_request(**change)
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [("base_model", "../etc"), ("dataset", "datasets/x"), ("validation_dataset", "x/y"), ("dataset", "")],
)
def test_inputs_are_names(field: str, value: str) -> None:
    run = make_run()
    setattr(run.spec.fine_tuning, field, value)
    with pytest.raises(InvalidArgument) as caught:
        conversion.request_from_proto(run, NOW)
    assert caught.value.violations[0].field == f"run.spec.fine_tuning.{field}"


def test_no_processes_are_refused() -> None:
    run = make_run()
    run.hyperparameters.num_processes = 0
    with pytest.raises(InvalidArgument, match="num_processes"):
        conversion.request_from_proto(run, NOW)


def test_output_only_fields_of_the_caller_are_ignored() -> None:
    request = make_request(artifact="artifacts/mine", head_sequence=99, state=task_pb2.Task.SUCCEEDED)
    shown = conversion.run_to_proto(request, History(), None)
    assert (shown.artifact, shown.head_sequence, shown.state) == ("", 0, task_pb2.Task.STARTING)
    assert shown.create_time.ToMicroseconds() == round(NOW * 1e6)


def test_a_run_is_shown_with_its_state_and_its_ask() -> None:
    run = make_run()
    run.spec.fine_tuning.validation_dataset = VALIDATION
    request = conversion.request_from_proto(run, NOW)
    shown = conversion.run_to_proto(request, History(head=7, started=True), Wish())
    assert (shown.name, shown.task, shown.attempt, shown.epoch) == (run.name, f"tasks/{TASK}", 1, 3)
    assert (shown.spec, shown.hyperparameters) == (run.spec, run.hyperparameters)
    assert (shown.state, shown.head_sequence) == (task_pb2.Task.CANCELLING, 7)
    assert not shown.HasField("error")


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_value(state: State) -> None:
    assert task_pb2.Task.State.Name(conversion.state_to_proto(state)) == state.value


def test_a_failure_is_shown_whole() -> None:
    failure = Failure("LOSS_NOT_FINITE", "nan", "user", "Lower it.", 3, {"loss": "nan"}, ("a", "b"))
    assert conversion.error_to_proto(failure) == task_error_pb2.TaskError(
        reason="LOSS_NOT_FINITE",
        message="nan",
        error_class=task_error_pb2.ERROR_CLASS_USER,
        hint="Lower it.",
        step=3,
        metadata={"loss": "nan"},
        log_tail=["a", "b"],
    )


def record(kind: str, **fields: object) -> dict:
    return {"sequence": 4, "time": 1_790_000_000.123456, "kind": kind, **fields}


def test_every_event_has_its_number_time_and_attempt() -> None:
    event = conversion.event_to_proto(record("anomaly", reason="R", message="m", step=2), 3)
    assert (event.sequence, event.attempt) == (4, 3)
    assert event.time.ToMicroseconds() == 1_790_000_000_123_456
    assert event.anomaly == task_event_pb2.Anomaly(reason="R", message="m", step=2)


def test_an_anomaly_is_told_with_all_that_is_known() -> None:
    fields = {"rank": -1, "rows": [3, 4], "suggestion": "do this", "log_lines": ["a", "\ud800"]}
    anomaly = conversion.event_to_proto(record("anomaly", reason="R", message="m", step=2, **fields), 1).anomaly
    assert (anomaly.rank, list(anomaly.rows), anomaly.suggestion) == (-1, [3, 4], "do this")
    assert list(anomaly.log_lines) == ["a", "?"]


def test_a_sample_and_the_time_that_remains() -> None:
    fields = {"step": 8, "index": 1, "prompt": "p", "text": "t", "truncated": True}
    sample = conversion.event_to_proto(record("sample_generated", **fields), 1).sample_generated
    assert sample == task_event_pb2.SampleGenerated(**fields)
    metrics = conversion.event_to_proto(record("metrics", step=1, values={}, remaining_seconds=1.5), 1).step_metrics
    assert metrics.remaining.ToMilliseconds() == 1500
    assert not conversion.event_to_proto(record("metrics", step=1, values={}), 1).step_metrics.HasField("remaining")


def test_tasks_of_old_get_what_they_did_not_say() -> None:
    numbers = numbers_of(task_spec_pb2.Hyperparameters(max_skipped_batches=9))
    named = {"non_finite_policy": "fail", "max_skipped_batches": 9, "rehearsal": "auto", "packing": True, "stall_policy": "warn"}
    assert named | {"save_total_limit": 2} == {name: numbers[name] for name in (*named, "save_total_limit")}
    assert numbers["time_limit_seconds"] is None


def test_a_saved_checkpoint_is_the_whole_of_what_the_run_says() -> None:
    values = {"loss": 0.5, "eval_loss": math.inf}
    event = conversion.event_to_proto(record("checkpoint_saved", step=8, name="step-8", size_bytes=99, values=values), 2)
    saved = event.checkpoint_saved
    assert (saved.step, saved.name, saved.size_bytes, dict(saved.values)) == (8, "step-8", 99, values)


def test_a_stored_checkpoint_says_where_and_what_it_is_called() -> None:
    fields = {
        "step": 8,
        "name": "step-8",
        "size_bytes": 9,
        "values": {},
        "artifact": "artifacts/a",
        "labels": ["good", "half \ud800"],
    }
    saved = conversion.event_to_proto(record("checkpoint_saved", **fields), 2).checkpoint_saved
    assert (saved.artifact, list(saved.labels)) == ("artifacts/a", ["good", "half ?"])


@pytest.mark.parametrize("label", ["", "a", "before-dpo.2", "x" * 63])
def test_a_label_is_short_and_plain(label: str) -> None:
    conversion.check_label(label)


@pytest.mark.parametrize("label", ["-a", "A", "a b", "../x", "x" * 64, "ä"])
def test_other_labels_are_refused(label: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        conversion.check_label(label)
    assert [violation.field for violation in caught.value.violations] == ["label"]


def test_the_weights_to_start_from_are_an_artifact_and_travel_to_the_training_process(run: RunDirectory) -> None:
    name = f"artifacts/{uuid.UUID(int=9)}"
    asked = make_run(first_attempt=2)
    asked.spec.fine_tuning.initial_artifact = name
    request = conversion.request_from_proto(asked, NOW)
    assert (ask_of(request).initial_artifact, request.first_attempt) == (name, 2)
    initial = Bundle(name, run.path / "weights", "baseModels/tiny", "r1", kind="CHECKPOINT")
    config = training_config(run, Bundle("baseModels/tiny", run.path / "model", "baseModels/tiny", "r1"), initial)
    assert config["initial_weights"] == {"directory": str((run.path / "weights").resolve()), "kind": "CHECKPOINT"}
    asked.spec.fine_tuning.initial_artifact = "tasks/1"
    with pytest.raises(InvalidArgument) as caught:
        conversion.request_from_proto(asked, NOW)
    assert caught.value.violations[0].field == "run.spec.fine_tuning.initial_artifact"


def test_a_version_of_a_registered_model_is_named_by_its_number() -> None:
    asked = make_run()
    asked.spec.fine_tuning.initial_artifact = "models/mine/versions/3"
    assert ask_of(conversion.request_from_proto(asked, NOW)).initial_artifact == "models/mine/versions/3"


@pytest.mark.parametrize("name", ["models/mine", "models/mine@best", "models/../x/versions/1", "models/mine/versions/x"])
def test_a_name_that_may_mean_another_version_tomorrow_is_refused(name: str) -> None:
    asked = make_run()
    asked.spec.fine_tuning.initial_artifact = name
    with pytest.raises(InvalidArgument) as caught:
        conversion.request_from_proto(asked, NOW)
    assert caught.value.violations[0].field == "run.spec.fine_tuning.initial_artifact"


class Bundles:
    """Remembers how it was asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def artifact(self, name: str) -> Bundle:
        self.asked.append(("artifact", name))
        return Bundle(name, pathlib.Path("x"), "baseModels/tiny", "r1")

    async def model_version(self, name: str) -> Bundle:
        self.asked.append(("model_version", name))
        return Bundle(name, pathlib.Path("x"), "baseModels/tiny", "r1")


@pytest.mark.parametrize(
    ("name", "verb"), [("models/mine/versions/3", "model_version"), (f"artifacts/{uuid.UUID(int=9)}", "artifact")]
)
async def test_initial_weights_are_fetched_as_what_they_are(name: str, verb: str) -> None:
    bundles, notes = Bundles(), []
    fetching = Fetching(None, bundles, lambda: 0.0)  # type: ignore[arg-type]
    assert (await fetching.weights(name, lambda text, severity="INFO": notes.append(text))).name == name
    assert (bundles.asked, notes) == ([(verb, name)], [f"fetching {name}"])


def test_a_start_says_where_it_continues() -> None:
    assert conversion.event_to_proto(record("training_started", resumed_step=7), 2).training_started.resumed_step == 7


def test_metrics_keep_values_that_are_no_numbers() -> None:
    values = {"loss": math.nan, "grad_norm": math.inf, "epoch": 0.5}
    metrics = conversion.event_to_proto(record("metrics", step=5, values=values), 1).step_metrics
    assert metrics.step == 5
    assert math.isnan(metrics.values["loss"])
    assert (metrics.values["grad_norm"], metrics.values["epoch"]) == (math.inf, 0.5)


def test_a_log_entry_keeps_where_it_came_from() -> None:
    fields = {"severity": "WARNING", "rank": -1, "source": "trainer", "text": "half \ud800 pair", "truncated": True, "step": 2}
    entry = conversion.event_to_proto(record("log", **fields), 1).log_entry
    assert (entry.severity, entry.rank, entry.source) == (task_event_pb2.LogEntry.WARNING, -1, "trainer")
    assert (entry.text, entry.truncated, entry.step) == ("half ? pair", True, 2)


def test_the_plan_takes_over_what_the_proto_knows() -> None:
    plan = conversion.event_to_proto(record("training_started", total_steps=9, device="cpu", brand_new=1), 1).training_started
    assert plan == task_event_pb2.TrainingStarted(total_steps=9, device="cpu")


def test_an_artifact_s_event_says_when_it_expires() -> None:
    created = conversion.event_to_proto(
        record("artifact_created", artifact="artifacts/a", size_bytes=12, expire_time=1_800_000_000.5), 1
    ).artifact_created
    assert (created.artifact, created.size_bytes) == ("artifacts/a", 12)
    assert created.expire_time.ToMicroseconds() == 1_800_000_000_500_000
