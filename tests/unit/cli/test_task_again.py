"""The verbs that go on from what a task has learned: checkpoints, save, retry, clone, create --from."""

import pytest
from fake_platform import NOW, a_run
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.v1.registered_model_pb2 import ModelVersion
from tunesmith.v1.task_manager_service_pb2 import Checkpoint
from tunesmith.v1.task_pb2 import Task, TaskOrigin
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, Lora, TaskSpec


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def earlier(platform):
    """A task with a spec of its own."""
    numbers = Hyperparameters(learning_rate=0.5, lora=Lora(rank=4, target_modules=["q_proj"]))
    spec = TaskSpec(fine_tuning=FineTuning(base_model="baseModels/small", dataset="datasets/d", hyperparameters=numbers))
    return platform.tasks.add(Task.FAILED, spec=spec, description="why", labels={"team": "a"}, priority=3)


def test_checkpoints_are_a_table_that_marks_the_best(run, platform, earlier):
    facts = {"attempt": 1, "size_bytes": 29_500_000, "create_time": NOW}
    platform.tasks.checkpoints[earlier.name] = [
        Checkpoint(name=f"{earlier.name}@step-20", step=20, **facts),
        Checkpoint(name=f"{earlier.name}@step-10", step=10, eval_loss=0.25, best=True, labels=["good"], **facts),
    ]
    lines = run("task", "checkpoints", earlier.name).stdout.splitlines()
    assert lines[0].split()[:3] == ["STEP", "EVAL", "LOSS"]
    assert "29.5 MB" in lines[1]
    assert "0.2500 (best)" in lines[2]
    assert "good" in lines[2]


def test_without_a_checkpoint_that_is_said(run, earlier):
    result = run("task", "checkpoints", earlier.name)
    assert result.exit_code == 0
    assert "no checkpoint is stored" in result.stdout + result.stderr


def test_saving_waits_for_the_checkpoint_of_that_label(run, platform):
    task = platform.tasks.add(Task.RUNNING)
    result = run("task", "save", task.name, "--label", "good")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "step-8 is stored as artifacts/1\n"


def test_a_task_that_ends_before_it_has_saved_is_said(run, platform):
    result = run("task", "save", platform.tasks.add(Task.PAUSING, events=a_run()).name)
    assert result.exit_code == 1
    assert "ended before the checkpoint was stored" in result.stderr


def test_trying_again_sends_what_changes_and_nothing_else(run, platform, earlier):
    result = run("task", "retry", earlier.name, "--set", "learning_rate=1e-5")
    assert result.stdout == earlier.name + "\n"
    (request,) = platform.tasks.retried
    assert request.hyperparameters == Hyperparameters(learning_rate=1e-5)
    assert request.request_id
    assert not request.from_start


def test_beginning_anew_has_to_be_said(run, platform, earlier):
    run("task", "retry", earlier.name, "--from-start")
    assert platform.tasks.retried[0].from_start


def test_what_has_not_failed_is_not_tried_again(run, platform):
    result = run("task", "retry", platform.tasks.add(Task.SUCCEEDED).name)
    assert result.exit_code != 0
    assert "TASK_NOT_ENDED_BADLY" in result.stderr


def test_a_clone_repeats_everything_but_what_is_said(run, platform, earlier):
    result = run("task", "clone", earlier.name, "--set", "lora.target_modules=v_proj", "--set", "seed=2", "--name", "copy")
    assert result.exit_code == 0, result.stderr
    (request,) = platform.tasks.created
    assert request.cloned_from == earlier.name
    task, numbers = request.task, request.task.spec.fine_tuning.hyperparameters
    assert (task.display_name, task.description, dict(task.labels), task.priority) == ("copy", "why", {"team": "a"}, 3)
    assert (numbers.learning_rate, numbers.seed, numbers.lora.rank) == (0.5, 2, 4)
    assert list(numbers.lora.target_modules) == ["v_proj"]
    assert not task.name


@pytest.mark.parametrize("suffix", ["", "@step-20"])
def test_what_a_task_starts_from_brings_its_base_model(run, platform, earlier, suffix):
    result = run("task", "create", "--data", "d2", "--from", earlier.name + suffix)
    assert result.exit_code == 0, result.stderr
    spec = platform.tasks.created[0].task.spec.fine_tuning
    assert (spec.initial_artifact, spec.base_model) == (earlier.name + suffix, "baseModels/small")


def test_an_artifact_brings_its_base_model_unless_another_is_named(run, platform):
    artifact = platform.artifacts.add({"a": b"1"}).name
    run("task", "create", "--data", "d", "--from", artifact)
    run("task", "create", "--data", "d", "--from", artifact, "--model", "other")
    first, second = (request.task.spec.fine_tuning for request in platform.tasks.created)
    assert (first.initial_artifact, first.base_model, second.base_model) == (artifact, "baseModels/tiny", "baseModels/other")


@pytest.mark.parametrize("name", ["models/mine", "models/mine@champion", "models/mine/versions/1"])
def test_a_registered_model_brings_its_base_model(run, platform, name):
    version = platform.artifacts.exported["models/mine/versions/1"] = ModelVersion(name="models/mine/versions/1")
    version.manifest.base_model = "baseModels/small"
    assert run("task", "create", "--data", "d", "--from", name).exit_code == 0
    spec = platform.tasks.created[0].task.spec.fine_tuning
    assert (spec.initial_artifact, spec.base_model) == (name, "baseModels/small")


def test_a_whole_registered_model_that_names_none_needs_one(run, platform):
    platform.artifacts.exported["models/mine/versions/1"] = ModelVersion(name="models/mine/versions/1")
    refused = run("task", "create", "--data", "d", "--from", "models/mine")
    assert (refused.exit_code, platform.tasks.created) == (2, [])
    assert "--model" in refused.stderr
    assert run("task", "create", "--data", "d", "--from", "models/mine", "--model", "tiny", "--tuning", "full").exit_code == 0


def test_show_says_where_a_task_comes_from(run, platform):
    origin = TaskOrigin(artifact="artifacts/a", task="tasks/t", step=20, cloned_from="tasks/c")
    shown = run("task", "show", platform.tasks.add(Task.QUEUED, origin=origin).name).stdout
    assert "artifacts/a (step 20 of tasks/t)" in shown
    assert "tasks/c" in shown
