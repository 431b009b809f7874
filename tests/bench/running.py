"""Fine-tunings in a whole stack, for SmolLM2 on the demo's data: what the platform costs beside the training process, how long
training stops for a checkpoint, and how right the expected time was after a tenth of the steps; `make bench` runs it.

The cost is that of a run without checkpoints, which cost by their bytes. What the stack computes anyway is told apart.
"""

import collections
import itertools
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from tests.bench.start_up import MODEL, TRAIN
from tests.e2e.local_stack import LocalStack, local_stack
from tunesmith.client import Client
from tunesmith.v1.task_event_pb2 import TaskEvent

STEPS, SAVE_EVERY = 60, 6
GOALS = {"saving": 0.1, "expected": 0.15}
TRAINING = "training"
_IDLE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: of processor time by process of a stack, children counted with the service that has them, and of the clock."""

    processes: Mapping[str, float]
    clock: float

    def __sub__(self, other: "Spent") -> "Spent":
        parts = {name: seconds - other.processes.get(name, 0.0) for name, seconds in self.processes.items()}
        return Spent(parts, self.clock - other.clock)

    @property
    def training(self) -> float:
        """Of the training process."""
        return self.processes.get(TRAINING, 0.0)


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
    print("| measured | found | goal |\n|---|---|---|")
    parts = shares(plain, idle)
    print(f"| the run's part of the platform, of the training process' | {sum(own for own, _ in parts.values()):.2%} | 1% |")
    print(f"| what the stack computes anyway, of the same | {sum(rest for _, rest in parts.values()):.2%} | |")
    print(f"| training stops for a checkpoint, median, s | {saving_seconds(steps, saves):.3f} | {GOALS['saving']} |")
    print(f"| expected time after a tenth of the steps, off by | {expectation_error(steps):.1%} | {GOALS['expected']:.0%} |")
    print("\n| process | the run's part | at rest |\n|---|---|---|")
    for name, (own, rest) in sorted(parts.items(), key=lambda part: -sum(part[1])):
        print(f"| {name} | {own:.2%} | {rest:.2%} |")
    print(f"\nLoad average: {os.getloadavg()[0]:.1f}.")


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


def shares(run: Spent, idle: Spent) -> dict[str, tuple[float, float]]:
    """Of the training process' processor time, by process of the platform: what the run makes it compute, what it does anyway."""
    resting = {name: seconds / idle.clock * run.clock for name, seconds in idle.processes.items()}
    names = sorted((run.processes.keys() | resting.keys()) - {TRAINING})
    return {
        name: ((run.processes.get(name, 0.0) - resting.get(name, 0.0)) / run.training, resting.get(name, 0.0) / run.training)
        for name in names
    }


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
    state, processes = running.state(), collections.Counter[str]()
    processes["tunesmith up"] = _seconds(psutil.Process(int(state["supervisor"]["pid"])))
    for name, told in state["processes"].items():
        root = psutil.Process(int(told["pid"]))
        for process in (root, *root.children(recursive=True)):
            processes[_part(process) or name] += _seconds(process)
    return Spent(processes, time.monotonic())


def _part(process: psutil.Process) -> str:
    """What is told apart from the service that has it; empty = nothing."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    if "services.trainer.supervisor" in words:
        return "supervisor"
    return TRAINING if "services.trainer.training" in words else ""


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return times.user + times.system


if __name__ == "__main__":
    main()
