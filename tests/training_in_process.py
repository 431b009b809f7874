"""Runs the training process' whole `run` in this process, so that a death at any point costs a second instead of ten.

A death is a BaseException: no `except` of the code under test sees it. What a real SIGKILL adds, the death of the process
itself, is tested with processes; the files it leaves are the same.
"""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

from training_configs import config_json

from services.trainer.training.config import parse_config
from services.trainer.training.progress import Progress

VARIABLES = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
    "OMP_NUM_THREADS": "1",
}
TIMING = ("tokens_per_second",)
ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"{question} {'please ' * (index % 5)}"},
            {"role": "assistant", "content": answer},
        ]
    }
    for index, (question, answer) in enumerate([("Where is my parcel?", "tracking"), ("I want my money.", "refund")] * 10)
][:19]


class Killed(BaseException):
    """The process dies here."""


class Recorder:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.plan: dict[str, Any] = {}
        self.values: dict[tuple[int, str], str] = {}
        """(step, metric) to the value as text that is equal only for equal bits."""
        self.anomalies: list[tuple[str, str, int]] = []
        self.saved: list[int] = []
        self.samples: list[tuple[int, str]] = []

    def started(self, values: Any) -> None:
        self.plan = dict(values)

    def metrics(self, step: int, values: Any, remaining: float | None = None) -> None:
        self.values |= {(step, name): float(value).hex() for name, value in values.items() if name not in TIMING}

    def sample(self, step: int, answer: Any) -> None:
        self.samples.append((step, answer.text))

    def beat(self, step: int, phase: str = "") -> None:
        pass

    def anomaly(self, reason: str, message: str, step: int, *, rows: Any = (), suggestion: str = "") -> None:
        self.anomalies.append((reason, message, step))

    def checkpoint_saved(self, step: int, name: str, size_bytes: int, metrics: Any) -> None:
        self.saved.append(step)


def configured(
    directory: Path,
    model: Path,
    *,
    rows: list[Any] = ROWS,
    validation: bool = True,
    method: str = "sft",
    tuning: str = "lora",
    **changes: Any,
) -> dict[str, Any]:
    """A run in `directory`, as CONFIG.json."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, part in {"train": rows, "validation": rows[:5]}.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    paths = {
        "method": method,
        "tuning": tuning,
        "base_model_dir": str(model),
        "train_file": str(directory / "train.jsonl"),
        "validation_file": str(directory / "validation.jsonl") if validation else None,
        "output_dir": str(directory / "output"),
    }
    return config_json(paths=paths, **changes)


def run(config: dict[str, Any]) -> tuple[Recorder, bool]:
    """One process' life: (what it reported, whether it died)."""
    import torch

    from services.trainer.training import __main__ as process
    from services.trainer.training.engine import Engine

    recorder, handler = Recorder(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    torch.manual_seed(int.from_bytes(os.urandom(4), "big"))  # a new process knows nothing of the one before
    try:
        # DeepSpeed remembers the group of its first run, so the group of one lives as long as this process.
        with mock.patch.dict(os.environ, VARIABLES), mock.patch.object(Engine, "close"):
            process.run(parse_config(config), recorder, Progress())
    except Killed:
        return recorder, True
    finally:
        signal.signal(signal.SIGTERM, handler)
    return recorder, False


def weights_sha256(config: dict[str, Any]) -> str:
    """Of the file of weights the run left, adapter or model."""
    (weights,) = Path(config["output_dir"]).glob("*.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()
