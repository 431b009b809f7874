"""Checkpoints as the training process would leave them, without torch."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from services.trainer.checkpoint_files import MANIFEST, SHARED, FileEntry, Manifest, encoded, rank_file


def make_checkpoint(
    directory: Path,
    step: int,
    *,
    labels: tuple[str, ...] = (),
    eval_loss: float | None = None,
    size: int = 50,
    best_step: int = 0,
    numbers: Mapping[str, object] | None = None,
) -> Path:
    """`directory/step-N`, whole."""
    path = directory / f"step-{step}"
    path.mkdir(parents=True)
    files = {}
    for name in (SHARED, rank_file(0)):
        content = f"{name} of {step}".encode() + os.urandom(size)
        (path / name).write_bytes(content)
        files[name] = FileEntry(len(content), hashlib.sha256(content).hexdigest())
    metrics = {"loss": 1.0 / step} | ({} if eval_loss is None else {"eval_loss": eval_loss})
    progress = {"done": step, "evaluated": 0 if eval_loss is None else step, "metrics": metrics, "best_step": best_step}
    manifest = Manifest(step, {"data": [3, 4, "ab" * 32], "hyperparameters": dict(numbers or {})}, progress, files, labels)
    (path / MANIFEST).write_bytes(encoded(manifest))
    return path
