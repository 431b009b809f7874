"""Where the supervisor writes that a run's micro-batches are cut smaller than its configuration says; standard library only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAMES = ("per_device_train_batch_size", "gradient_accumulation_steps")


def path_beside(config: Path) -> Path:
    """Of the cut of the run whose configuration this is."""
    return config.parent / "checkpoints" / "batch_cut.json"


def fitting(config: Path, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """As `read`, but nothing when the cut is of another batch: a task that is tried again may have got another one."""
    found = read(config)
    return found if found and _rows(found) == _rows(numbers) else {}


def read(config: Path) -> dict[str, Any]:
    """Hyperparameters that take the place of the configuration's; empty when nothing was cut."""
    try:
        value = json.loads(path_beside(config).read_text())
    except FileNotFoundError:
        return {}
    return {name: value[name] for name in _NAMES}


def _rows(numbers: Mapping[str, Any]) -> int:
    """Of one process in an optimizer step."""
    size, passes = (int(numbers[name]) for name in _NAMES)
    return size * passes
