"""Evaluation and generation runs: what their processes are given, what is told of their results, what outlives an attempt."""

# ruff: noqa: ASYNC240 - files of a few bytes

import json
import os
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from trainer_values import DATASET, NOW, TASK, make_request, make_run

from services.common.errors import InvalidArgument, ServiceError, Unavailable
from services.trainer import conversion
from services.trainer.composition import Split
from services.trainer.delivery import Delivery
from services.trainer.exit_failure import failure_of
from services.trainer.fetching import Fetching
from services.trainer.history import Exit, History
from services.trainer.inheritance import inherit_answers
from services.trainer.kinds.table import KINDS, describe
from services.trainer.launcher import Launcher
from services.trainer.run import Request
from services.trainer.run_directory import RunDirectory
from services.trainer.storage_client import Adapter, DatasetDigests, Learned, StoredAdapter
from services.trainer.training_events import UnreadableEvent, parse
from tests.unit.trainer.test_settings import settings
from tunesmith.v1 import evaluation_pb2, generation_pb2, task_spec_pb2

TUNED = f"artifacts/{uuid.UUID(int=9)}"
OTHER = f"datasets/{uuid.UUID(int=2)}"
RECORDED = task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(answers_in_rows=True, dataset=DATASET))
RECORDED_AND_ASKED = evaluation_pb2.Evaluation(models=["x"], answers_in_rows=True, dataset=DATASET)
EVALUATION = task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(models=["baseModels/tiny", TUNED], dataset=DATASET))
GENERATION = task_spec_pb2.TaskSpec(generation=generation_pb2.Generation(model=TUNED, dataset=DATASET))


def a_request(spec: task_spec_pb2.TaskSpec, attempt: int = 1) -> Request:
    run = make_run(name=f"runs/{TASK}-{attempt}", attempt=attempt)
    run.spec.CopyFrom(spec)
    run.ClearField("hyperparameters")
    return conversion.request_from_proto(run, NOW)


def a_run(root: Path, spec: task_spec_pb2.TaskSpec) -> RunDirectory:
    return RunDirectory.create(root, a_request(spec))


class Stored:
    """Datasets and what was trained on them; remembers uploads."""

    def __init__(self, trained_on: Sequence[tuple[str, int]] = ()) -> None:
        self._trained_on = trained_on
        self.split: Split | None = None
        self.gone = 0
        self.uploads: list[tuple[str, str]] = []
        self.failures: list[ServiceError] = []
        self.fetched: list[str] = []

    async def learned(self, model: str) -> Learned:
        if not model.startswith("artifacts/"):
            return Learned()
        return Learned(12, tuple(self._trained_on), self.split, len(self._trained_on) + self.gone)

    async def fetch_dataset(self, name: str, target: Path, on_download: Any) -> DatasetDigests:
        target.write_text(f"rows of {name}\n")
        self.fetched.append(name)
        return DatasetDigests("a" * 64, "b" * 64)

    async def upload_dataset(self, display_name: str, path: Path) -> str:
        if self.failures:
            raise self.failures.pop()
        self.uploads.append((display_name, path.read_text()))
        return OTHER

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        manifest = describe(adapter)
        assert [use.dataset for use in manifest.datasets] == [DATASET]
        return StoredAdapter(TUNED, 5, 1.0)


def quiet(text: str, severity: str = "INFO") -> None:
    """Nobody listens."""


async def prepared(run: RunDirectory, stored: Stored, note: Any = quiet) -> dict[str, Any]:
    fetching = Fetching(stored, stored, lambda: 0.0)  # type: ignore[arg-type]
    found = await KINDS[run.request.kind].prepare(run, fetching, note)
    run.record_preparation(found.provenance, found.config)
    return dict(found.config)


async def test_an_evaluation_is_given_its_rows_and_those_that_its_models_know(tmp_path: Path) -> None:
    run = a_run(tmp_path, EVALUATION)
    config = await prepared(run, Stored([(OTHER, 100)]))
    assert Path(config["data"]).read_text() == f"rows of {DATASET}\n"
    assert config["spec"]["evaluation"]["models"] == ["baseModels/tiny", TUNED]
    assert config["trained_on"]["baseModels/tiny"] == {}
    assert Path(config["trained_on"][TUNED][OTHER]).read_text() == f"rows of {OTHER}\n"
    assert run.provenance().datasets[0].dataset == DATASET
    assert config["steps"] == {TUNED: 12}


async def test_what_several_models_were_trained_on_is_fetched_once(tmp_path: Path) -> None:
    models = ["baseModels/tiny", *(f"artifacts/{uuid.UUID(int=number)}" for number in (1, 2, 3))]
    spec = task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(models=models, dataset=DATASET))
    stored = Stored([(OTHER, 100)])
    config = await prepared(a_run(tmp_path, spec), stored)
    assert stored.fetched == [DATASET, OTHER]
    assert [set(config["trained_on"][model]) for model in models] == [set(), {OTHER}, {OTHER}, {OTHER}]
    assert list(config["steps"]) == models[1:]


async def test_an_evaluation_is_told_what_its_models_held_out(tmp_path: Path) -> None:
    stored = Stored([(OTHER, 100)])
    stored.split = Split(0.1, 7)
    config = await prepared(a_run(tmp_path, EVALUATION), stored)
    assert config["splits"] == {TUNED: {"ratio": 0.1, "seed": 7}}
    assert set(config["trained_on"][TUNED]) == {OTHER}


async def test_nobody_is_accused_when_it_cannot_be_told_what_was_held_out(tmp_path: Path) -> None:
    stored, said = Stored([(OTHER, 100)]), list[str]()
    stored.split, stored.gone = Split(0.1, 7), 1
    config = await prepared(a_run(tmp_path, EVALUATION), stored, lambda text, severity="INFO": said.append(text))
    assert config["trained_on"][TUNED] == {}
    assert any("no leak is looked for" in text for text in said)


async def test_very_large_training_data_is_not_searched_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    config = await prepared(
        a_run(tmp_path, EVALUATION), Stored([(OTHER, 2**30)]), lambda text, severity="INFO": said.append(text)
    )
    assert config["trained_on"][TUNED] == {}
    assert any("1,074 MB" in text and OTHER in text for text in said)


@pytest.mark.parametrize("spec", [EVALUATION, GENERATION, RECORDED], ids=["evaluation", "generation", "recorded"])
def test_a_run_asks_with_one_process_and_survives_its_document(spec: task_spec_pb2.TaskSpec) -> None:
    request = a_request(spec)
    assert request.num_processes == 1
    assert conversion.request_from_document(request.document) == request
    assert KINDS[request.kind].module == "services.trainer.answering"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (
            task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(models=["x"], dataset="x/y")),
            "run.spec.evaluation.dataset",
        ),
        (task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(dataset=DATASET)), "run.spec.evaluation.models"),
        (task_spec_pb2.TaskSpec(evaluation=RECORDED_AND_ASKED), "run.spec.evaluation.models"),
        (task_spec_pb2.TaskSpec(generation=generation_pb2.Generation(dataset=DATASET)), "run.spec.generation.models"),
    ],
    ids=["dataset", "no models", "models and answers", "no model"],
)
def test_what_cannot_run_is_refused(spec: task_spec_pb2.TaskSpec, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        a_request(spec)
    assert [violation.field for violation in caught.value.violations] == [field]


def finish(run: RunDirectory, field: str, result: dict[str, Any]) -> None:
    record = {"kind": field.upper(), "step": 3, "metrics": {}, "rendered_rows_sha256": "", "versions": {}, field: result}
    (run.path / "result.json").write_text(json.dumps(record))
    (run.output / "summary.json").write_text("{}")


async def delivered(run: RunDirectory, stored: Stored) -> Any:
    return await Delivery(stored, lambda: 0.0).deliver(run, quiet)


async def test_what_an_evaluation_found_is_told_with_its_artifact(tmp_path: Path) -> None:
    run = a_run(tmp_path, EVALUATION)
    await prepared(run, Stored())
    finish(run, "evaluation", {"row_count": 3, "summary": "better"})
    found = await delivered(run, Stored())
    assert found.stored.name == TUNED
    assert [(event.kind, event.fields["result"]["summary"]) for event in found.news] == [("evaluation_finished", "better")]


async def test_what_a_generation_made_is_a_dataset(tmp_path: Path) -> None:
    run, stored = a_run(tmp_path, GENERATION), Stored()
    await prepared(run, stored)
    finish(run, "generation", {"row_count": 1})
    (run.path / "generated.jsonl").write_text('{"messages": []}\n')
    stored.failures.append(Unavailable("STORAGE_UNAVAILABLE", "away"))
    (event,) = (await delivered(run, stored)).news
    assert event.fields["result"] == {"row_count": 1, "dataset": OTHER}
    assert stored.uploads == [(f"Answers of tasks/{TASK}", '{"messages": []}\n')]


async def test_a_generation_without_answers_makes_no_dataset(tmp_path: Path) -> None:
    run, stored = a_run(tmp_path, GENERATION), Stored()
    await prepared(run, stored)
    finish(run, "generation", {"row_count": 1})
    (run.path / "generated.jsonl").write_text("")
    (event,) = (await delivered(run, stored)).news
    assert event.fields["result"] == {"row_count": 1}
    assert stored.uploads == []


async def test_a_result_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    run = a_run(tmp_path, EVALUATION)
    await prepared(run, Stored())
    finish(run, "generation", {})
    with pytest.raises(ServiceError, match="left no evaluation"):
        await delivered(run, Stored())


def test_answers_of_the_newest_attempt_that_has_any_are_copied_once(tmp_path: Path) -> None:
    for attempt, text in ((1, "old"), (2, "new")):
        (tmp_path / f"{attempt}").mkdir()
        (tmp_path / f"{attempt}" / "model-0.jsonl").write_text(text)
    older = [tmp_path / "3", tmp_path / "2", tmp_path / "1"]
    inherit_answers(tmp_path / "own", older)
    assert (tmp_path / "own" / "model-0.jsonl").read_text() == "new"
    (tmp_path / "own" / "model-0.jsonl").write_text("newer")
    inherit_answers(tmp_path / "own", older)
    assert (tmp_path / "own" / "model-0.jsonl").read_text() == "newer"
    assert (tmp_path / "2" / "model-0.jsonl").read_text() == "new"
    inherit_answers(tmp_path / "none", [tmp_path / "3"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "own"]


def test_a_killed_process_that_loses_nothing_is_a_lost_run() -> None:
    killed = History(exit=Exit({0: -9}, cancelled=False, failed_rank=0, lost=""))
    assert failure_of(killed).reason == "TRAINING_PROCESS_KILLED"
    assert failure_of(killed, loses_nothing=True).reason == "RUN_LOST"
    exited = History(exit=Exit({0: 1}, cancelled=False, failed_rank=0, lost=""))
    assert failure_of(exited, loses_nothing=True).reason == "TRAINING_PROCESS_EXITED"


def test_only_processes_that_ask_models_are_given_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: given.append(env))
    monkeypatch.setenv("TUNESMITH_TRAINER_INFERENCE_API_KEY", "s")
    told = settings(INFERENCE_ADDRESS="127.0.0.1:5", INFERENCE_API_KEY="s", INFERENCE_QUESTIONS="3").inference_environment()
    launcher = Launcher("m", 1.0, lambda _: 1, inference=told)
    launcher.launch(a_run(tmp_path, EVALUATION))
    (tmp_path / "other").mkdir()
    launcher.launch(RunDirectory.create(tmp_path / "other", make_request()))
    asking, training = ({name: v for name, v in env.items() if "INFERENCE" in name} for env in given)
    names = {"ADDRESS": "127.0.0.1:5", "API_KEY": "s", "QUESTIONS": "3"}
    assert asking == {f"TUNESMITH_RUN_INFERENCE_{name}": value for name, value in names.items()}
    assert training == {}
    assert os.environ["TUNESMITH_TRAINER_INFERENCE_API_KEY"] == "s"


def test_events_of_these_runs_are_checked_and_told() -> None:
    line = {"kind": "answering_started", "total_answers": 6, "resumed_answers": 2, "models": ["a", "b"]}
    event = parse(json.dumps(line).encode(), 0)
    told = conversion.event_to_proto({"sequence": 1, "time": NOW, "kind": event.kind, **event.fields}, 2)
    assert (told.answering_started.total_answers, list(told.answering_started.models)) == (6, ["a", "b"])
    for wrong in ({"models": "a"}, {"total_answers": -1}):
        with pytest.raises(UnreadableEvent):
            parse(json.dumps(line | wrong).encode(), 0)
    result = {"row_count": 3, "models": [{"model": "m", "latency": {"p50": "0.250000s"}}], "newer_field": 1}
    finished = conversion.event_to_proto({"sequence": 2, "time": NOW, "kind": "evaluation_finished", "result": result}, 1)
    assert finished.evaluation_finished.result.models[0].latency.p50.ToMilliseconds() == 250
    made = conversion.event_to_proto({"sequence": 3, "time": NOW, "kind": "generation_finished", "result": {"dataset": OTHER}}, 1)
    assert made.generation_finished.result.dataset == OTHER
