"""Fine-tunings in a whole stack, for SmolLM2 on the demo's data: what the platform costs beside the training process, how long
training stops for a checkpoint, and how right the expected time was after a tenth of the steps; `make bench` runs it.

The cost is that of a run without checkpoints, which cost by their bytes. What the stack computes anyway is told apart.
"""

import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from tests.bench.start_up import MODEL, TRAIN
from tests.e2e.local_stack import LocalStack, local_stack
from tunesmith.client import Client
from tunesmith.v1.task_event_pb2 import TaskEvent

STEPS, SAVE_EVERY = 60, 6
GOALS = {"saving": 0.1, "expected": 0.15}
_IDLE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: of processor time of all processes of a stack but training, of training, and of the clock."""

    platform: float
    training: float
    clock: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.platform - other.platform, self.training - other.training, self.clock - other.clock)


def main() -> None:
    """Print a table."""
    with tempfile.TemporaryDirectory() as directory, local_stack(pathlib.Path(directory) / "data") as running:
        addresses = running.state()["addresses"]
        with Client(task_manager=addresses["task_manager"], storage=addresses["storage"]) as client:
            dataset = client.upload_dataset(TRAIN, "running").name
            _, plain = followed(client, running, dataset, {"max_steps": STEPS // 2})
            before = _spent(running)
            time.sleep(_IDLE_SECONDS)
            idle = _spent(running) - before
            events, _ = followed(client, running, dataset, {"max_steps": STEPS, "save_steps": SAVE_EVERY})
    steps = [event for event in events if event.HasField("step_metrics") and "loss" in event.step_metrics.values]
    saves = {event.checkpoint_saved.step for event in events if event.HasField("checkpoint_saved")}
    resting = idle.platform / idle.clock * plain.clock
    print("| measured | found | goal |\n|---|---|---|")
    print(
        f"| the run's part of the platform, of the training process' | {(plain.platform - resting) / plain.training:.2%} | 1% |"
    )
    print(f"| what the stack computes anyway, of the same | {resting / plain.training:.2%} | |")
    print(f"| training stops for a checkpoint, median, s | {saving_seconds(steps, saves):.3f} | {GOALS['saving']} |")
    print(f"| expected time after a tenth of the steps, off by | {expectation_error(steps):.1%} | {GOALS['expected']:.0%} |")


def followed(client: Client, running: LocalStack, dataset: str, numbers: dict[str, int]) -> tuple[list[TaskEvent], Spent]:
    """Every event of a task, and what was spent between its first step and the last but two."""
    task = client.create_task(name="running", base_model=MODEL, dataset=dataset, hyperparameters=numbers)
    events, spent = [], []
    for event in client.watch_task(task.name):
        events.append(event)
        # After its last step the process may be gone before it is looked at.
        if event.HasField("step_metrics") and event.step_metrics.step in (1, numbers["max_steps"] - 2):
            spent.append(_spent(running))
    return events, spent[-1] - spent[0]


def saving_seconds(steps: Sequence[TaskEvent], saves: set[int]) -> float:
    """Between two steps with a checkpoint in between, what is neither training nor what lies between steps without one.

    A step's speed is told without the time it stood still, so the rest of the time between two events is that time.
    """

    def still(before: TaskEvent, after: TaskEvent) -> float:
        values = after.step_metrics.values
        tokens = values["tokens"] - before.step_metrics.values["tokens"]
        return (after.time.ToNanoseconds() - before.time.ToNanoseconds()) / 1e9 - tokens / values["tokens_per_second"]

    pairs = list(itertools.pairwise(steps))
    with_save = [still(*pair) for pair in pairs if pair[0].step_metrics.step in saves]
    without = [still(*pair) for pair in pairs if pair[0].step_metrics.step not in saves]
    return statistics.median(with_save) - statistics.median(without)


def expectation_error(steps: Sequence[TaskEvent]) -> float:
    """Of the time that was expected after a tenth of the steps, as a share of what it really took."""
    told = next(event for event in steps if event.step_metrics.step >= STEPS / 10)
    expected = told.step_metrics.remaining.ToNanoseconds()
    took = steps[-1].time.ToNanoseconds() - told.time.ToNanoseconds()
    return abs(expected - took) / took


def _spent(running: LocalStack) -> Spent:
    """So far, by the processes that are there now."""
    state = running.state()
    roots = [psutil.Process(int(process["pid"])) for process in (state["supervisor"], *state["processes"].values())]
    family = {process for root in roots for process in (root, *root.children(recursive=True))}
    trains = {process for process in family if _is_training(process)}
    return Spent(sum(map(_seconds, family - trains)), sum(map(_seconds, trains)), time.monotonic())


def _is_training(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "services.trainer.training" in words and "services.trainer.supervisor" not in words


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


if __name__ == "__main__":
    main()
