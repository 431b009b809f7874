"""What the trainer can be told."""

import datetime
import os
import pathlib

import pytest

from services.common.config import ConfigError, load
from services.trainer.settings import TrainerSettings

PREFIX = "TUNESMITH_TRAINER_"
NEEDED = {"LISTEN": "127.0.0.1:0", "STORAGE_ADDRESS": "127.0.0.1:1", "DATA_DIR": "d", "CACHE_DIR": "c"}


def settings(**more: str) -> TrainerSettings:
    return load(TrainerSettings, PREFIX, {PREFIX + name: value for name, value in (NEEDED | more).items()})


def test_defaults() -> None:
    defaults = settings()
    assert defaults.data_dir == pathlib.Path("d")
    assert defaults.processes == len(os.sched_getaffinity(0))
    assert (defaults.stop_grace, defaults.run_retention) == (datetime.timedelta(seconds=10), datetime.timedelta(days=1))
    assert defaults.training_module == "services.trainer.training"


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_needed_settings_are_named_when_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(NEEDED, name)
    with pytest.raises(ConfigError, match=PREFIX + name):
        settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PROCESSES", "0"), ("PROCESSES", "x"), ("THREADS", "-1"), ("STOP_GRACE", "10"), ("INFERENCE_QUESTIONS", "0")],
)
def test_wrong_values_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=PREFIX + name):
        settings(**{name: value})


def test_cores_are_shared_among_the_ranks_and_no_rank_gets_none() -> None:
    cores = len(os.sched_getaffinity(0))
    assert settings().threads_for(1) == cores
    assert settings().threads_for(1000) == 1
    assert settings(THREADS="3").threads_for(1000) == 3
