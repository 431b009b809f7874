"""Seconds from the event that a fine-tuning has succeeded to the first token of its result, at the client, for SmolLM2 on a stack
of its own; `make bench` runs it.

The first round finds inference with what it has loaded while the task trained, and with nothing under `--not-ahead`; in the
others the base model is there, and each result is new to it.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Mapping

from tests.bench.start_up import MODEL, TRAIN
from tests.e2e.local_stack import local_stack
from tunesmith.client import Client
from tunesmith.v1.task_pb2 import Task

GOAL = 3.0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="tests.bench.first_token")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--not-ahead", action="store_true", help="the base model is loaded by the first question")
    given = parser.parse_args()
    settings = {"TUNESMITH_INFERENCE_AHEAD_MAX_BYTES": "0"} if given.not_ahead else {}
    with tempfile.TemporaryDirectory() as directory:
        first, *others = measure(pathlib.Path(directory) / "data", given.rounds, settings)
    print("| base model | rounds | p50, s | slowest, s | goal |\n|---|---|---|---|---|")
    print(f"| {'not in memory' if given.not_ahead else 'loaded ahead'} | 1 | {first:.2f} | {first:.2f} | {GOAL:g} |")
    print(f"| in memory | {len(others)} | {sorted(others)[len(others) // 2]:.2f} | {max(others):.2f} | {GOAL:g} |")


def measure(directory: pathlib.Path, rounds: int, settings: Mapping[str, str]) -> list[float]:
    """Seconds of each round."""
    with local_stack(directory, **settings) as running:
        addresses = running.state()["addresses"]
        services = {service: addresses[service] for service in ("task_manager", "storage", "inference")}
        with Client(**services) as client:
            dataset = client.upload_dataset(TRAIN, "first-token").name
            return [first_token(client, dataset) for _ in range(rounds)]


def first_token(client: Client, dataset: str) -> float:
    """Seconds from the event to the first token that a fine-tuning of two steps answers with."""
    numbers = {"max_steps": 2, "global_batch_size": 4}
    task = client.create_task(name="first-token", base_model=MODEL, dataset=dataset, hyperparameters=numbers)
    for event in client.watch_task(task.name):
        if event.state_change.to_state == Task.SUCCEEDED:
            break
    began = time.perf_counter()
    next(client.stream_chat(task.name, "Where is my parcel?", max_tokens=8))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
