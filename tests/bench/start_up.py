"""Seconds from CreateTask to the first loss at the client, for SmolLM2 on a stack of its own; `make bench` runs it.

Warm: a process waits with its imports done, as it does some seconds after the last run. Cold: there is none. With `--log` every
event of the first task is printed with its time, which says where the seconds go.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence

import grpc

import tunesmith
from tests.e2e.local_stack import eventually, local_stack
from tunesmith.client import Client
from tunesmith.v1.task_event_pb2 import TaskEvent
from tunesmith.v1.trainer_service_pb2 import GetCapacityRequest
from tunesmith.v1.trainer_service_pb2_grpc import TrainerServiceStub

MODEL = "smollm2-135m-instruct"
TRAIN = pathlib.Path(tunesmith.__file__).parent / "local" / "demo" / "train.jsonl"
GOALS = {"warm": 3.0, "cold": 12.0}
_WARM_SECONDS = 120.0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="tests.bench.start_up")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--log", action="store_true")
    arguments = parser.parse_args()
    print("| start | rounds | p50, s | p95, s | slowest, s | goal |\n|---|---|---|---|---|---|")
    for kind, goal in GOALS.items():
        with tempfile.TemporaryDirectory() as directory:
            found = measure(pathlib.Path(directory) / "data", kind == "warm", arguments.rounds, arguments.log)
        print(f"| {kind} | {len(found)} | {_row(found)} | {goal:g} |", flush=True)


def measure(directory: pathlib.Path, warm: bool, rounds: int, shows_log: bool) -> list[float]:
    """Seconds of each round; one more goes before them, which brings model and data to the trainer."""
    with local_stack(directory, TUNESMITH_TRAINER_WARM_PROCESSES=str(int(warm))) as running:
        addresses = running.state()["addresses"]
        with Client(task_manager=addresses["task_manager"], storage=addresses["storage"]) as client:
            dataset = client.upload_dataset(TRAIN, "start-up").name
            found = []
            for number in range(rounds + 1):
                if warm:
                    _until_warm(addresses["trainer"])
                found.append(first_loss(client, dataset, shows_log and number == 1))
    return found[1:]


def first_loss(client: Client, dataset: str, shows_log: bool) -> float:
    """Seconds until the first loss of a task, which is then cancelled."""
    began, wall = time.perf_counter(), time.time()
    task = client.create_task(name="start-up", base_model=MODEL, dataset=dataset)
    seconds = 0.0
    for event in client.watch_task(task.name):
        if shows_log:
            print(f"{time.perf_counter() - began:6.2f} {event.time.ToMicroseconds() / 1e6 - wall:6.2f} {_short(event)}")
        if event.HasField("step_metrics") and "loss" in event.step_metrics.values:
            seconds = time.perf_counter() - began
            break
    client.cancel_task(task.name)
    client.wait(task.name)
    return seconds


def _until_warm(trainer: str) -> None:
    with grpc.insecure_channel(trainer) as channel:
        stub = TrainerServiceStub(channel)
        eventually(lambda: stub.GetCapacity(GetCapacityRequest()).warm_processes, _WARM_SECONDS, "nothing is kept ready")


def _row(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return f"{statistics.median(ordered):.2f} | {p95:.2f} | {ordered[-1]:.2f}"


def _short(event: TaskEvent) -> str:
    kind = event.WhichOneof("event")
    return f"{kind}: {str(getattr(event, kind)).replace(chr(10), ' ')[:110]}"


if __name__ == "__main__":
    main()
