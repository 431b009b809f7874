"""Finds the newest whole checkpoint of a run and puts engine and progress where it was taken; used by `__main__`."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.common.changeable import CHANGEABLE
from services.trainer.checkpoint_files import SHARED, Manifest, Torn, check, checkpoints, rank_file, read_manifest
from services.trainer.training.checkpoint import read_tensors
from services.trainer.training.config import TrainConfig
from services.trainer.training.data import Dataset
from services.trainer.training.engine import Engine
from services.trainer.training.progress import Progress, Result
from services.trainer.training.snapshot import Snapshot

_log = logging.getLogger("tunesmith.training")


def identity(config: TrainConfig, training: Dataset) -> dict[str, Any]:
    """What a checkpoint belongs to: everything that decides the course of the run, and no name of a run or a place."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if not isinstance(value, Path) and name != "run"}
    del values["initial_weights"]  # the same for every attempt of a task
    for name in CHANGEABLE:
        del values["hyperparameters"][name]
    del values["sample_prompts"]
    # Checkpoints from before there was such a number do not say it.
    if (lora := values["hyperparameters"]["lora"]) and not lora["last_layers"]:
        del lora["last_layers"]
    counts = [len(training.examples), training.token_count, training.target_token_count]
    values["data"] = [*counts, training.rendered_rows_sha256, *training.labels]
    result: dict[str, Any] = json.loads(json.dumps(values))
    return result


def newest(directory: Path, wanted: Mapping[str, Any]) -> Manifest | None:
    """The newest whole checkpoint of this identity; torn ones and others' are named in the log and left out."""
    for path in checkpoints(directory):
        try:
            manifest = check(path)
        except Torn as error:
            _log.warning("the checkpoint %s is not whole and is left out: %s", path.name, error)
            continue
        if manifest.identity == wanted:
            return manifest
        _log.warning("the checkpoint %s is of another model, other data or other numbers and is left out", path.name)
    return None


def resume(engine: Engine, directory: Path, wanted: Mapping[str, Any], progress: Progress) -> int:
    """Continues from the newest checkpoint, if there is one; returns its step, 0 = from the beginning. Raises Torn."""
    found = newest(directory, wanted) if engine.rank == 0 else None
    # The first rank decides: all must continue from the same step.
    step = engine.exchange([found.step if found else 0])[0][0]
    if step == 0:
        return 0
    path = directory / f"step-{step}"
    manifest = found or read_manifest(path)
    engine.restore(_snapshot(path, manifest, engine.rank))
    progress.restore(manifest.progress)
    _log.info("continuing from the checkpoint of step %s", step)
    return step


def with_best_weights(result: Result, engine: Engine, directory: Path, wanted: Mapping[str, Any], progress: Progress) -> Result:
    """After an early stop, puts the engine where the validation loss was best and says what the result then is.

    Without a whole checkpoint of that step all stays as it is.
    """
    if result.ended != "EARLY_STOPPED":
        return result
    path = directory / f"step-{progress.best_step}"
    usable = engine.rank == 0 and progress.best_step > 0 and _is_whole(path, wanted)
    if not engine.exchange([usable])[0][0]:
        _log.warning("there is no checkpoint of step %s, so the result has the last weights", progress.best_step)
        return result
    manifest = read_manifest(path)
    engine.restore(_snapshot(path, manifest, engine.rank))
    return dataclasses.replace(result, step=manifest.step, metrics=dict(manifest.progress["metrics"]))


def _is_whole(path: Path, wanted: Mapping[str, Any]) -> bool:
    try:
        return check(path).identity == wanted
    except Torn as error:
        _log.warning("the checkpoint %s is not whole: %s", path.name, error)
        return False


def _snapshot(path: Path, manifest: Manifest, rank: int) -> Snapshot:
    shared, own = (read_tensors(path, manifest, name) for name in (SHARED, rank_file(rank)))
    return Snapshot(shared, own)
