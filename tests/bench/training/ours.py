"""The product's training process on a job: the whole of it, engine, events and all."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from services.trainer.training.config import TrainConfig, parse_config
from services.trainer.training.events import NullSink
from tests.bench.training.job import Job, Moment

_RANK = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


class _Clock(NullSink):
    """A sink that notes when each step was reported."""

    def __init__(self) -> None:
        self.times: list[Moment] = []
        self.losses: list[float] = []

    def metrics(self, step: int, values: Mapping[str, float], remaining: float | None = None) -> None:
        self.times.append(Moment.now())
        self.losses.append(values["loss"])

    def anomaly(self, reason: str, message: str, step: int, *, rows: Sequence[int] = (), suggestion: str = "") -> None:
        raise AssertionError(message)


def run(job: Job) -> tuple[list[Moment], list[float]]:
    """(when each step ended, its loss)."""
    with tempfile.TemporaryDirectory() as directory:
        return train(parse_config(job.config(Path(directory) / "output")))


def train(config: TrainConfig) -> tuple[list[Moment], list[float]]:
    """The same of any run; its adapter lies in `config.output_dir`."""
    from services.trainer.training import __main__ as process
    from services.trainer.training.progress import Progress

    clock = _Clock()
    with mock.patch.dict(os.environ, _RANK):
        process.run(config, clock, Progress())
    return clock.times, clock.losses
