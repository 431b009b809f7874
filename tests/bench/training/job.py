"""What every variant does in a measurement: the same rows in the same order from the same first weights; read by all workers."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tests.training_configs import config_json

DATA_VARIABLE = "TUNESMITH_BENCH_DATA"
LEARNING_RATE = 5e-4
SEED = 42
MAX_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement of one variant."""

    variant: str
    tuning: Literal["lora", "full"]
    model: str
    """Directory of the base model."""
    rows: str
    """Chat rows as JSON lines, in the order in which they are trained on."""
    batch: int
    """Rows of an optimizer step."""
    micro_batch: int
    """Rows that go through a peer's model at a time."""
    steps: int
    last_layers: int = 0
    """Of ours: adapters in so many layers alone; 0 = all."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return cls(**json.loads(text))

    def config(self, output: Path) -> dict[str, Any]:
        """CONFIG.json of our run."""
        paths = {"tuning": self.tuning, "base_model_dir": self.model, "train_file": self.rows, "output_dir": str(output)}
        return config_json(
            paths=paths,
            lora={"rank": 8, "alpha": 16.0, "last_layers": self.last_layers},
            learning_rate=LEARNING_RATE if self.tuning == "lora" else LEARNING_RATE / 25,
            lr_scheduler_type="constant",
            global_batch_size=self.batch,
            per_device_train_batch_size=self.micro_batch,
            gradient_accumulation_steps=self.batch // self.micro_batch,
            max_steps=self.steps,
            max_seq_length=MAX_LENGTH,
            seed=SEED,
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """On two clocks."""

    wall: float
    cpu: float
    """Seconds all threads of this process have computed."""

    @classmethod
    def now(cls) -> "Moment":
        return cls(time.perf_counter(), time.process_time())


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker prints."""

    seconds: tuple[float, ...]
    """Of each optimizer step but the first, which warms up."""
    cpu_seconds: tuple[float, ...]
    """The same, computing time of all threads; waiting threads that spin compute, too."""
    targets: tuple[int, ...]
    """Tokens with loss in each of those steps."""
    losses: tuple[float, ...]
    """Of each of those steps."""
    peak_rss: int
    """Bytes."""

    @classmethod
    def from_json(cls, text: str) -> "Measured":
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()})


def write_rows(target: Path, count: int) -> None:
    """The first rows of the training file below DATA_VARIABLE. Raises SystemExit when it is not set or too short."""
    directory = os.environ.get(DATA_VARIABLE)
    if not directory:
        raise SystemExit(f"{DATA_VARIABLE} names a directory with train.jsonl: chat rows to measure with")
    rows = (Path(directory) / "train.jsonl").read_text(encoding="utf-8").splitlines()
    if len(rows) < count:
        raise SystemExit(f"train.jsonl has {len(rows)} rows; {count} are needed")
    target.write_text("\n".join(rows[:count]) + "\n", encoding="utf-8")


def import_model(target: Path) -> Path:
    """SmolLM2 135M as the product registers it."""
    from tunesmith.local.base_model import gguf_file

    command = [sys.executable, "-m", "services.trainer.training.import_gguf", "--gguf", str(gguf_file()), "--out", str(target)]
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target
