"""Gives a new attempt the checkpoints of the attempts before it; used by the keeper before it starts the training process."""

import contextlib
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Sequence

from services.trainer.history import History

_CUT = "batch_cut.json"
_SCRATCH = re.compile(r"\.[0-9a-f]{32}")
_NAME = re.compile(r"step-([1-9][0-9]*)")


def inherit(own: pathlib.Path, older: Sequence[tuple[pathlib.Path, History]]) -> int:
    """Links every checkpoint of the directories `older`, newest attempt first, into `own`; returns the newest step, 0 = none.

    Each directory comes with the history of its run; a checkpoint that it does not know is left out.
    Links cost nothing, and deleting the older run or a checkpoint of it takes nothing from the new one: files of checkpoints are
    never changed. Which of them are whole is for the training process to find out. May be repeated.
    """
    for directory, history in older:
        for source in _checkpoints(directory):
            if not history.knows(_step(source)):
                continue
            # An older run may be swept away at this very moment; then there is nothing to inherit.
            with contextlib.suppress(FileNotFoundError):
                link(source, own / source.name)
        _inherit_cut(directory, own)
    return max(map(_step, _checkpoints(own)), default=0)


def clear_cut_short(*directories: pathlib.Path) -> None:
    """Removes links and downloads that a killed process has left without their name. Nothing may be under way."""
    for directory in directories:
        for path in directory.iterdir() if directory.is_dir() else ():
            if _SCRATCH.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)


def inherit_answers(own: pathlib.Path, older: Sequence[pathlib.Path]) -> None:
    """Copies what models have answered in the newest of the directories `older` that has any to `own`, whole or not at all.

    A copy, for the new run goes on writing. May be repeated: what is there already stays.
    """
    newest = next((directory for directory in older if directory.is_dir()), None)
    if newest is None or own.exists():
        return
    scratch = own.with_name(f".{own.name}.{uuid.uuid4().hex}")
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.copytree(newest, scratch)
            scratch.rename(own)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _inherit_cut(older: pathlib.Path, own: pathlib.Path) -> None:
    """A run whose micro-batches had to be smaller than asked for continues with those."""
    target = own / _CUT
    if (older / _CUT).exists() and not target.exists():
        own.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(older / _CUT, scratch := target.with_name(f".{uuid.uuid4().hex}"))
        scratch.rename(target)


def _checkpoints(directory: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in directory.iterdir() if _NAME.fullmatch(path.name)] if directory.is_dir() else []


def _step(checkpoint: pathlib.Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Makes `target` of links to the files of `source`, whole or not at all; one that is there stays. Raises OSError."""
    if target.exists():
        return
    scratch = target.with_name(f".{uuid.uuid4().hex}")
    scratch.mkdir(parents=True)
    try:
        for file in source.iterdir():
            os.link(file, scratch / file.name)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
