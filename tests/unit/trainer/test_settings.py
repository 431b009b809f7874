"""What the trainer can be told."""

import datetime
import os
import pathlib

import pytest

from services.common.config import ConfigError, load
from services.common.labels import MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_LABELS
from services.task_manager.domain import validation
from services.trainer.contact import Fence
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
    [
        ("PROCESSES", "0"),
        ("PROCESSES", "x"),
        ("THREADS", "-1"),
        ("STOP_GRACE", "10"),
        ("INFERENCE_QUESTIONS", "0"),
        ("CACHE_MAX_BYTES", "-1"),
        ("WARM_BASE_MAX_BYTES", "-1"),
    ],
)
def test_wrong_values_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=PREFIX + name):
        settings(**{name: value})


def test_cores_are_shared_among_the_ranks_and_no_rank_gets_none() -> None:
    cores = len(os.sched_getaffinity(0))
    assert settings().threads_for(1) == cores
    assert settings().threads_for(1000) == 1
    assert settings(THREADS="3").threads_for(1000) == 3


def test_labels_are_read_in_any_order_and_with_blanks() -> None:
    assert settings().label_map() == {}
    assert settings(LABELS="zone=a, disk = fast,note=,x=1=2").label_map() == {"zone": "a", "disk": "fast", "note": "", "x": "1=2"}


@pytest.mark.parametrize(
    "text",
    ["zone", "=a", "zone=a,zone=b", "k" * 65 + "=a", "k=" + "v" * 513, ",".join(f"k{n}=v" for n in range(65))],
    ids=["no value", "no key", "twice", "long key", "long value", "too many"],
)
def test_wrong_labels_are_named_at_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_TRAINER_LABELS"):
        settings(LABELS=text)


def test_the_largest_permitted_labels_are_those_of_what_tasks_ask_for() -> None:
    largest = {f"{n:0{MAX_LABEL_KEY}}": "v" * MAX_LABEL_VALUE for n in range(MAX_LABELS)}
    assert settings(LABELS=",".join(f"{key}={value}" for key, value in largest.items())).label_map() == largest
    assert list(validation.label_violations("task.spec.runner_labels", largest)) == []


def test_fencing_is_relaxed_unless_it_is_asked_for() -> None:
    assert settings().fence() is None
    assert settings(FENCING_AFTER="5s").fence() is None
    strict = settings(FENCING="strict", DATA_DIR="/d", FENCING_AFTER="90s").fence()
    assert strict == Fence(pathlib.Path("/d/contact"), 90.0)
    default = settings(FENCING="strict").fence()
    assert default is not None
    assert default.limit == 60.0


@pytest.mark.parametrize(("name", "value"), [("FENCING", "Strict"), ("FENCING", ""), ("FENCING_AFTER", "900ms")])
def test_wrong_fencing_is_named_at_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"TUNESMITH_TRAINER_{name}"):
        settings(**{name: value})
