"""Checkpoints that somebody asked for, as files in a run's directory: the face leaves them, the training process takes them.

Standard library only: the training process reads it at every step.
"""

import contextlib
import json
import os
import pathlib
import re
import uuid

LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

_SUFFIX = ".wish"


def leave(checkpoints: pathlib.Path, label: str) -> None:
    """Asks for a checkpoint in the directory `checkpoints`, which is made when it is not there; `label` may be empty."""
    checkpoints.mkdir(exist_ok=True)
    scratch = checkpoints / f".{uuid.uuid4().hex}"
    scratch.write_text(json.dumps({"label": label}))
    os.rename(scratch, scratch.with_suffix(_SUFFIX))


def are_there(checkpoints: pathlib.Path) -> bool:
    """Whether somebody has asked."""
    with contextlib.suppress(FileNotFoundError):
        return any(name.endswith(_SUFFIX) for name in os.listdir(checkpoints))
    return False


def taken(checkpoints: pathlib.Path) -> tuple[str, ...]:
    """The labels of everything that was asked for, which is then gone; a wish without a label is fulfilled, too."""
    labels = set()
    for path in sorted(checkpoints.glob(f".*{_SUFFIX}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            labels.add(str(json.loads(path.read_text())["label"]))
        path.unlink(missing_ok=True)
    return tuple(sorted(label for label in labels if LABEL.fullmatch(label)))
