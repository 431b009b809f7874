"""Evaluations and generations through the command line: verdicts, results equal to unbroken ones, datasets of answers."""

import json
import pathlib

import psutil
import pytest

from tests.e2e.local_stack import LocalStack, eventually
from tests.shared_stack import TINY, write_rows
from tunesmith.v1 import task_pb2

_NUMBERS = ("--max-tokens", "32")


@pytest.fixture(scope="module")
def tuned(stack: LocalStack, dataset: str, rows: pathlib.Path) -> dict:
    """A fine-tuning of two steps, each with a checkpoint, that asked for its evaluation and theirs."""
    given = ("max_steps=2", "save_steps=1", "global_batch_size=8", "max_seq_length=64", "lora.rank=2")
    numbers = [part for each in given for part in ("--set", each)]
    asked = ["--eval-data", dataset, "--eval-checkpoints", *numbers]
    run = ["task", "create", "--data", dataset, "--model", TINY, "--name", "measured", *asked]
    return stack.json(*run)


@pytest.fixture(scope="module")
def questions(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Enough of them to break something in between."""
    path = write_rows(tmp_path_factory.mktemp("questions") / "questions.jsonl", 160)
    return str(stack.json("data", "upload", str(path))["name"])


def ended(stack: LocalStack, task: str) -> dict:
    assert stack.run("task", "watch", task, timeout=240).returncode == 0
    return stack.json("task", "show", task)


def without_times(result: dict) -> dict:
    for model in result["models"]:
        del model["latency"]
    return result


def test_a_fine_tuning_gets_its_verdict_by_itself(stack: LocalStack, tuned: dict, dataset: str) -> None:
    done = ended(stack, tuned["name"])
    evaluation = ended(stack, done["evaluation_task"])
    assert evaluation["origin"] == {"artifact": done["artifact"], "task": tuned["name"]}
    told = map(json.loads, stack.run("task", "checkpoints", tuned["name"], "--json").stdout.splitlines())
    (first,) = [each["artifact"] for each in told if each["step"] == "1"]
    models = [f"baseModels/{TINY}", first, done["artifact"]]
    assert evaluation["spec"]["evaluation"] == {"models": models, "dataset": dataset, "checkpoints": True}
    found = stack.json("task", "show", tuned["name"])["evaluation_result"]
    assert found == evaluation["evaluation_result"]
    assert (found["row_count"], [model.get("step") for model in found["models"]]) == ("24", [None, "1", "2"])
    assert found["models"][2]["verdict"] in ("BETTER", "NO_SIGNIFICANT_CHANGE", "WORSE")
    assert found["best"]["model"] in models[1:]
    # Two steps on these very rows make them more probable, far from any chance.
    assert float(found["models"][2]["perplexity"]["delta_high"]) < 0
    # It was evaluated on what it has learned, and that is said.
    assert [(leak["model"], leak["row_count"]) for leak in found["leaks"]] == [(name, "24") for name in models[1:]]
    shown = stack.run("eval", "show", tuned["name"])
    assert "VERDICT" in shown.stdout
    assert "was trained on 24 of these rows" in shown.stderr
    lines = stack.run("eval", "rows", tuned["name"]).stdout.splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(1, 25))


def test_whatever_is_killed_in_between_the_result_is_that_of_an_unbroken_run(
    stack: LocalStack, tuned: dict, questions: str
) -> None:
    ended(stack, tuned["name"])
    run = ["eval", "run", "--model", "base", "--model", tuned["name"], "--data", questions, *_NUMBERS]
    whole = ended(stack, stack.json(*run)["name"])
    broken = stack.json(*run)["name"]
    answers_in(stack, broken, 20)
    (process,) = [p for p in psutil.process_iter(["cmdline"]) if is_asking(p, broken)]
    process.kill()
    eventually(lambda: at(stack, broken) == (2, "RUNNING"), 90, "it is not tried again")
    stack.run("task", "pause", broken)
    eventually(lambda: at(stack, broken) == (2, "PAUSED"), 60, "it is not paused")
    stack.run("task", "resume", broken)
    # Last, because what was answered while no trainer could tell it is told at once.
    eventually(lambda: at(stack, broken)[0] == 3, 60, "it is not continued")
    stack.kill("trainer")
    done = ended(stack, broken)
    assert done["attempt"] == 3
    assert without_times(done["evaluation_result"]) == without_times(whole["evaluation_result"])
    assert said(stack, broken) == said(stack, whole["name"])


def test_answers_become_a_dataset_of_as_many_rows(stack: LocalStack, questions: str) -> None:
    done = ended(stack, stack.json("batch", "run", "--model", TINY, "--data", questions, "--max-tokens", "8")["name"])
    result = done["generation_result"]
    assert int(result["answered_count"]) + int(result.get("failed_count", 0)) == 160
    made = stack.json("data", "show", result["dataset"])
    assert (made["format"], made["statistics"]["example_count"]) == ("CHAT", result["answered_count"])
    assert "answered" in stack.run("batch", "show", done["name"]).stdout


def answers_in(stack: LocalStack, task: str, count: int) -> None:
    """Until so many answers are told."""
    eventually(lambda: stack.task(task).progress.step >= count, 90, f"no {count} answers")


def at(stack: LocalStack, task: str) -> tuple[int, str]:
    """(attempt, state)."""
    now = stack.task(task)
    return now.attempt, task_pb2.Task.State.Name(now.state)


def is_asking(process: psutil.Process, task: str) -> bool:
    command = " ".join(process.info["cmdline"] or [])
    return "services.trainer.answering" in command and task.removeprefix("tasks/") in command and "supervisor" not in command


def said(stack: LocalStack, evaluation: str) -> list:
    """What every row says but for times."""
    rows = [json.loads(line) for line in stack.run("eval", "rows", evaluation).stdout.splitlines()]
    return [[row["row"], [(answer.get("text"), answer["scores"]) for answer in row["answers"]]] for row in rows]
