"""What a task has learned outlives its run, its trainer's disk and its failure, and another task can start from it."""

import json
import shutil

import pytest

from tests.e2e.conftest import TINY
from tests.e2e.local_stack import LocalStack, eventually

pytestmark = pytest.mark.e2e

# Long enough to be caught in the middle.
STEPS = 300
NUMBERS = ("--set", f"max_steps={STEPS}", "--set", "global_batch_size=4", "--set", "lora.rank=4", "--set", "lora.dropout=0.1")


def create(stack: LocalStack, dataset: str, *options: str) -> str:
    return str(stack.json("task", "create", "--name", "c", "--model", TINY, "--data", dataset, *(options or NUMBERS))["name"])


def losses(stack: LocalStack, task: str) -> dict[int, float]:
    """By step; a step that was reported twice must have been the same both times."""
    found: dict[int, float] = {}
    for point in stack.json_lines("task", "metrics", task, "--metric", "loss"):
        assert found.setdefault(int(point["step"]), point["values"]["loss"]) == point["values"]["loss"]
    return found


def weights(stack: LocalStack, task: str) -> str:
    """SHA-256 of the adapter's weights."""
    artifact = stack.json("artifact", "show", stack.json("task", "show", task)["artifact"])
    (digest,) = [file["sha256"] for file in artifact["manifest"]["files"] if file["path"] == "adapter_model.safetensors"]
    return str(digest)


@pytest.fixture(scope="module")
def unbroken(stack: LocalStack, dataset: str) -> tuple[dict[int, float], str]:
    task = create(stack, dataset)
    assert stack.run("task", "watch", task).returncode == 0
    return losses(stack, task), weights(stack, task)


def running(stack: LocalStack, task: str) -> None:
    """Until it has measured something."""
    eventually(lambda: stack.task(task).progress.step, 60, "no step")


@pytest.fixture(scope="module")
def survivor(stack: LocalStack, dataset: str) -> tuple[str, list[int]]:
    """(task, the steps it continued from): paused, its run's directory deleted, resumed, killed, tried again."""
    task = create(stack, dataset)
    running(stack, task)
    assert stack.json("task", "save", task, "--label", "kept")["labels"] == ["kept"]
    stack.run("task", "pause", task)
    eventually(lambda: stack.state_of(task) == "PAUSED", 30, "paused")
    steps = [int(each["step"]) for each in stack.json_lines("task", "checkpoints", task)]
    # It has not ended, and answers all the same.
    answer = stack.json("model", "chat", f"{task}@step-{max(steps)}", "-m", "hello", "--max-tokens", "4", "--json")
    assert int(answer["usage"].get("completion_tokens", 0)) <= 4
    (directory,) = stack.directory.rglob(f"runs/{task.removeprefix('tasks/')}-1")
    shutil.rmtree(directory)
    stack.run("task", "resume", task)
    eventually(lambda: stack.task(task).progress.step > max(steps), 60, "it does not continue")
    stack.ranks()[0].kill()
    eventually(lambda: stack.state_of(task) == "FAILED", 30, "failed")
    refused = stack.run("task", "retry", task, "--set", "seed=1", "--json", check=False)
    assert "hyperparameters.seed" in refused.stderr
    stack.run("task", "retry", task, "--set", "logging_steps=1")
    assert stack.run("task", "watch", task).returncode == 0
    return task, steps


def test_a_task_whose_run_was_deleted_and_killed_ends_as_if_nothing_had_happened(
    stack: LocalStack, survivor: tuple[str, list[int]], unbroken: tuple[dict[int, float], str]
) -> None:
    task, saved = survivor
    started = [
        json.loads(line).get("training_started") for line in stack.run("task", "watch", task, "--json").stdout.splitlines()
    ]
    assert [int(each.get("resumed_step", 0)) for each in started if each] == [0, max(saved), max(saved)]
    assert stack.json("task", "show", task)["attempt"] == 3
    assert (losses(stack, task), weights(stack, task)) == unbroken


def test_another_task_starts_from_a_checkpoint(stack: LocalStack, dataset: str, survivor: tuple[str, list[int]]) -> None:
    retried, _ = survivor
    (labelled,) = [each for each in stack.json_lines("task", "checkpoints", retried) if each.get("labels") == ["kept"]]
    few = ("--set", "max_steps=2", "--set", "global_batch_size=4", "--from", labelled["name"])
    child = create(stack, dataset, *few)
    assert stack.run("task", "watch", child).returncode == 0
    origin = stack.json("task", "show", child)["origin"]
    assert origin == {"artifact": labelled["artifact"], "task": retried, "step": labelled["step"]}
    assert losses(stack, child)[1] < losses(stack, retried)[1]
    refused = stack.run(
        "task", "create", "--data", dataset, "--from", labelled["name"], "--set", "lora.rank=8", "--json", check=False
    )
    assert "lora.rank" in refused.stderr
    clone = stack.json("task", "clone", child, "--set", "max_steps=1")
    assert clone["origin"]["cloned_from"] == child
    stack.run("task", "cancel", clone["name"])
