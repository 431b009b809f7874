"""Which checkpoints stay: the newest few, the best and those with a label; used by the saver once a new one is durable."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.trainer.checkpoint_files import Manifest, Torn, checkpoints, read_manifest

_UNFINISHED = re.compile(r"\.step-[1-9][0-9]*\.[0-9]+\.part(\.part)?")


def unfinished(directory: Path, step: int, ticket: int) -> Path:
    """Where the files of a checkpoint are before it has its name; another `ticket` for every try."""
    return directory / f".step-{step}.{ticket}.part"


def prune(directory: Path, limit: int, identity: Mapping[str, Any]) -> None:
    """Deletes all but the newest `limit` (at least 1), the one with the lowest validation loss and those with a label.

    Those of another identity, which this run cannot continue from, stay only if they have a label.

    Call it only when the newest is durable: everything that was cut short, here or in an earlier run, goes as well.
    """
    kept = _kept(directory, limit, identity)
    for path in checkpoints(directory):
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for path in directory.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _kept(directory: Path, limit: int, identity: Mapping[str, Any]) -> set[Path]:
    known = [(path, manifest) for path in checkpoints(directory) if (manifest := _readable(path))]
    own = [(path, manifest) for path, manifest in known if manifest.identity == identity]
    losses = [(manifest.eval_loss, path) for path, manifest in own if manifest.eval_loss is not None]
    best = {min(losses, key=lambda pair: pair[0])[1]} if losses else set()
    return {path for path, _ in own[:limit]} | {path for path, manifest in known if manifest.labels} | best


def _readable(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except Torn:
        return None
