"""What the demo shows and answers, on a scripted stack."""

import json
import time
from contextlib import contextmanager

import pytest
from fake_platform import a_run
from typer.testing import CliRunner

from tunesmith.cli.app import app
from tunesmith.local import demo_run
from tunesmith.local.state import ProcessId, StackState
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_pb2 import Task


@pytest.fixture
def stack(platform, monkeypatch):
    """A running stack made of the scripted services; remembers whether it was asked to stay."""
    addresses = dict.fromkeys(("task_manager", "storage", "inference"), platform.address)
    asked = []

    @contextmanager
    def running_stack(directory, *, keep):
        asked.append(keep)
        yield StackState("1", ProcessId(1, 1.0), time.time(), addresses, ready=True)

    monkeypatch.setattr(demo_run, "running_stack", running_stack)

    def finish_at_once(task):
        task.state, task.artifact, task.progress.step = Task.SUCCEEDED, "artifacts/made", 3

    platform.tasks.on_create = finish_at_once
    return asked


def run(*arguments):
    return CliRunner().invoke(app, ["demo", *arguments])


def test_it_shows_data_training_answers_accuracy_times_and_the_way_on(stack, platform):
    result = run("--questions", "24")
    assert result.exit_code == 0, result.output
    for part in (
        "Support desk, training: 320 examples",
        "step 3 loss=1",
        "tuned",
        "0/24 right",
        "train 0",
        "tunesmith up",
        f"tunesmith task show {platform.tasks.stored[0].name.split('/')[1]}",
        "tunesmith artifact download made",
    ):
        assert part in result.output, part
    assert stack == [False]


def test_as_json_it_is_one_object_and_the_rest_is_talk(stack, platform):
    result = run("--json", "--keep")
    summary = json.loads(result.stdout)
    assert (summary["artifact"], summary["questions"], summary["steps"]) == ("artifacts/made", 40, 3)
    assert len(summary["answers"]) == 3
    assert set(summary["accuracy"]) == {"base", "tuned"}
    assert list(summary["seconds"]) == ["start", "upload", "train", "compare", "measure", "total"]
    assert "Fine-tuning" in result.stderr
    assert stack == [True]


def test_base_and_tuned_answer_the_same_questions(stack, platform):
    run("--questions", "24")
    asked = [(request.model.partition("/")[0], request.messages[-1].content) for request in platform.inference.asked]
    by_model = {model: [words for name, words in asked if name == model] for model in ("baseModels", "tasks")}
    assert sorted(by_model["baseModels"]) == sorted(by_model["tasks"])
    assert len(by_model["tasks"]) == 27


def test_a_failed_task_is_exit_code_3_with_its_error(stack, platform):
    error = TaskError(reason="OUT_OF_MEMORY", message="no memory", hint="Smaller batches.")

    def fail(task):
        task.state = Task.FAILED
        task.error.CopyFrom(error)
        platform.tasks.events[task.name] = a_run(ending=Task.FAILED, error=error)

    platform.tasks.on_create = fail
    result = run()
    assert result.exit_code == 3
    assert "error[OUT_OF_MEMORY]: no memory\n  hint: Smaller batches." in result.stderr
