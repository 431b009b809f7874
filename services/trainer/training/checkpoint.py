"""A checkpoint on disk: `step-N/` with safetensors files and the manifest that proves them; written by the saver, read by resume.

A checkpoint exists when its directory has its final name and its manifest fits every byte. Nothing else counts: no `latest`, no
time stamp. The manifest proves itself too, because it holds numbers that training continues with.
"""

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, numpy
from safetensors.torch import load, save
from torch import Tensor

from services.trainer.training.durable import sync_directory, write_file

MANIFEST = "manifest.json"
SHARED = "shared.safetensors"

_FORMAT = 1
_NAME = re.compile(r"step-([1-9][0-9]*)")


class Torn(Exception):
    """The directory is not a whole checkpoint; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a file must be."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint is and what proves it."""

    step: int
    """Optimizer steps done."""
    identity: Mapping[str, Any]
    """What it belongs to: another model, other data or other numbers cannot continue from it."""
    progress: Mapping[str, Any]
    """The loop's own state."""
    files: Mapping[str, FileEntry]

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(entry.size for entry in self.files.values())

    @property
    def eval_loss(self) -> float | None:
        """Validation loss of exactly these weights; None when it was not measured at this step."""
        measured = self.progress.get("evaluated") == self.step
        value = self.progress.get("metrics", {}).get("eval_loss") if measured else None
        return value if value is not None and math.isfinite(value) else None


def rank_file(rank: int) -> str:
    """Name of the file with what only this rank has."""
    return f"rank-{rank}.safetensors"


def write_tensors(directory: Path, name: str, tensors: Mapping[str, Tensor]) -> FileEntry:
    """One file of a checkpoint that is not committed yet. `tensors` lie on the CPU, each in memory of its own."""
    data = _serialized(tensors)
    write_file(directory / name, data)
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


def commit(work: Path, directory: Path, manifest: Manifest) -> Path:
    """Turns `work`, which has all files, into `directory/step-N`; the rename is the moment from which it exists."""
    body = {"format": _FORMAT, **asdict(manifest)}
    write_file(work / MANIFEST, json.dumps({"sha256": _digest(body), "body": body}).encode())
    sync_directory(work)
    target = directory / f"step-{manifest.step}"
    # Training only comes to a step again when the checkpoint of that step was found torn.
    shutil.rmtree(target, ignore_errors=True)
    os.rename(work, target)
    sync_directory(directory)
    return target


def checkpoints(directory: Path) -> list[Path]:
    """Everything with a checkpoint's name, newest step first; whether it is whole is another question."""
    found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)] if directory.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def read_manifest(path: Path) -> Manifest:
    """The manifest of a checkpoint, its files unread; raises Torn."""
    try:
        record = json.loads((path / MANIFEST).read_bytes())
        body = record["body"]
        if record["sha256"] != _digest(body):
            raise Torn("the manifest's own checksum is wrong")
        if body["format"] != _FORMAT or path.name != f"step-{body['step']}":
            raise Torn(f"the manifest is of format {body['format']}, step {body['step']}")
        files = {name: FileEntry(**entry) for name, entry in body["files"].items()}
        return Manifest(body["step"], body["identity"], body["progress"], files)
    except OSError as error:
        raise Torn(f"the manifest cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise Torn(f"the manifest is damaged: {error}") from error


def read_tensors(path: Path, manifest: Manifest, name: str) -> dict[str, Tensor]:
    """One file of a checkpoint, checked and parsed from the same bytes; raises Torn."""
    try:
        return dict(load(_checked(path, manifest, name)))
    except (SafetensorError, KeyError) as error:
        raise Torn(f"{name}: {error}") from error


def check(path: Path) -> Manifest:
    """The manifest of a whole checkpoint, every byte looked at; raises Torn."""
    manifest = read_manifest(path)
    for name in manifest.files:
        _checked(path, manifest, name)
    return manifest


def _serialized(tensors: Mapping[str, Tensor]) -> bytes:
    # The same bytes; for the thousand small tensors of an adapter the way over numpy takes less than half the time.
    if any(tensor.dtype is torch.bfloat16 for tensor in tensors.values()):  # numpy has no such type
        return bytes(save(dict(tensors)))
    return bytes(numpy.save({name: tensor.numpy() for name, tensor in tensors.items()}))


def _checked(path: Path, manifest: Manifest, name: str) -> bytes:
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise Torn(f"{name} cannot be read: {error}") from error
    if manifest.files[name] != FileEntry(len(data), hashlib.sha256(data).hexdigest()):
        raise Torn(f"{name} is not what the manifest says")
    return data


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
