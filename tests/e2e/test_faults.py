"""Every process of the stack is killed while a task runs; the task finishes and no reader sees a gap."""

import json
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from tests.e2e.conftest import TINY, write_rows
from tests.e2e.local_stack import CLI, LocalStack, eventually, local_stack
from tests.e2e.register import register_base_model
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.e2e

# Every kill below comes after the first step; long enough that what was killed is back before the last one.
STEPS = 600


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    model = make_tiny_model(tmp_path_factory.mktemp("model") / TINY)
    with local_stack(tmp_path_factory.mktemp("faults") / "data", "--no-base-model") as running:
        register_base_model(running.state()["addresses"]["storage"], TINY, model)
        yield running


@pytest.fixture(scope="module")
def dataset(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 24)
    return str(stack.json("data", "upload", str(rows))["name"])


def start(stack: LocalStack, dataset: str, steps: int = STEPS) -> str:
    numbers = ("--set", f"max_steps={steps}", "--set", "global_batch_size=4", "--set", "lora.rank=4")
    return str(stack.json("task", "create", "--name", "survivor", "--model", TINY, "--data", dataset, *numbers)["name"])


def watch(stack: LocalStack, task: str) -> subprocess.Popen[str]:
    command = [*CLI, "task", "watch", task, "--json"]
    return subprocess.Popen(command, env=stack.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.parametrize("victim", ["task_manager", "trainer", "storage", "inference", "postgres", "object_store"])
def test_a_killed_process_loses_nothing(stack: LocalStack, dataset: str, victim: str) -> None:
    task = start(stack, dataset)
    watcher = watch(stack, task)
    eventually(lambda: stack.task(task).progress.step, 60, "no step")
    stack.kill(victim)
    output, _ = watcher.communicate(timeout=240)
    assert watcher.returncode == 0, output[-2000:]
    events = [json.loads(line) for line in output.splitlines()]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    steps = [int(event["step_metrics"]["step"]) for event in events if "loss" in event.get("step_metrics", {}).get("values", {})]
    assert steps == list(range(1, STEPS + 1))
    shown = stack.json("task", "show", task)
    assert (shown["state"], shown["attempt"]) == ("SUCCEEDED", 1)


def test_with_storage_away_the_answer_says_so_and_it_recovers(stack: LocalStack, dataset: str) -> None:
    storage = psutil.Process(stack.pid("storage"))
    storage.suspend()
    try:
        done = stack.run("task", "create", "--name", "x", "--model", TINY, "--data", dataset, "--json", check=False, timeout=180)
        error = json.loads(done.stderr.strip().splitlines()[-1])["error"]
        assert error["grpc_code"] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert error["hint"]
    finally:
        storage.resume()
    task = start(stack, dataset, steps=3)
    assert stack.run("task", "watch", task).returncode == 0


def test_stopping_the_stack_ends_the_runs_and_the_next_start_continues_where_they_were(stack: LocalStack, dataset: str) -> None:
    task = start(stack, dataset, steps=1_000_000)
    eventually(lambda: stack.task(task).progress.step >= 5, 90, "five steps")
    everything = stack.descendants()
    assert len(everything) >= 8
    stack.stop()
    eventually(lambda: not any(process.is_running() for process in everything), 60, "a process is left")
    stack.up("--free-ports", "--no-base-model")
    eventually(lambda: stack.task(task).attempt == 2 and stack.ranks(), 60, "no second attempt")
    assert stack.state_of(task) in ("STARTING", "RUNNING")
    eventually(lambda: continued_from(stack, task), 90, "the second attempt does not say where it continues")
    assert continued_from(stack, task) >= 5
    stack.run("task", "cancel", task)
    eventually(lambda: stack.state_of(task) == "CANCELLED", 30, "cancelled")


def test_down_leaves_nothing_and_a_second_up_has_everything(stack: LocalStack, dataset: str) -> None:
    before = stack.json("data", "show", dataset)
    processes = stack.descendants()
    assert len(processes) >= 6
    assert stack.stop() in (0, 130)
    eventually(lambda: not any(process.is_running() for process in processes), 60, "a process is left")
    assert not (stack.directory / "stack.json").exists()
    stack.up("--free-ports", "--no-base-model")
    assert stack.json("data", "show", dataset)["sha256"] == before["sha256"]
    assert stack.run("down").returncode == 0
    assert not (stack.directory / "stack.json").exists()


def continued_from(stack: LocalStack, task: str) -> int:
    """The step that the training process says it continues from; 0 = it has not said so."""
    texts = [line["entry"]["text"] for line in stack.json_lines("task", "logs", task)]
    said = [text.rsplit(" ", 1)[1] for text in texts if text.startswith("continuing from the checkpoint of step ")]
    return int(said[-1]) if said else 0
