"""A checkpoint as files: `step-N/` with safetensors and the manifest that proves them. The training process writes and loads it,
the face brings it to storage and back; neither needs torch for what is here.

A checkpoint exists when its directory has its final name and its manifest fits every byte. Nothing else counts: no `latest`, no
time stamp. The manifest proves itself too, because it holds numbers that training continues with.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
SHARED = "shared.safetensors"

_FORMAT = 1
_NAME = re.compile(r"step-([1-9][0-9]{0,17})")
_FILE = re.compile(r"shared\.safetensors|rank-(0|[1-9][0-9]{0,4})\.safetensors|manifest\.json")


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
    labels: tuple[str, ...] = ()
    """What it was called when it was asked for; one with a label stays whatever comes after it."""

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(entry.size for entry in self.files.values())

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of every metric."""
        return {name: float(value) for name, value in self.progress.get("metrics", {}).items()}

    @property
    def eval_loss(self) -> float | None:
        """Validation loss of exactly these weights; None when it was not measured at this step."""
        measured = self.progress.get("evaluated") == self.step
        value = self.metrics.get("eval_loss") if measured else None
        return value if value is not None and math.isfinite(value) else None


def rank_file(rank: int) -> str:
    """Name of the file with what only this rank has."""
    return f"rank-{rank}.safetensors"


def is_file_name(name: str) -> bool:
    """Whether a checkpoint has files of this name; everything else is no path of ours."""
    return _FILE.fullmatch(name) is not None


def step_of(name: str) -> int:
    """The step in a directory's name; 0 = not the name of a checkpoint."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


def checkpoints(directory: Path) -> list[Path]:
    """Everything with a checkpoint's name, newest step first; whether it is whole is another question."""
    found = [path for path in directory.iterdir() if step_of(path.name)] if directory.is_dir() else []
    return sorted(found, key=lambda path: step_of(path.name), reverse=True)


def encoded(manifest: Manifest) -> bytes:
    """The manifest's file."""
    body = {"format": _FORMAT, **asdict(manifest)}
    return json.dumps({"sha256": _digest(body), "body": body}).encode()


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
        return Manifest(body["step"], body["identity"], body["progress"], files, tuple(body.get("labels", ())))
    except OSError as error:
        raise Torn(f"the manifest cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise Torn(f"the manifest is damaged: {error}") from error


def read_checked(path: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of one file of a checkpoint; raises Torn when they are not the manifest's, KeyError when it has no such."""
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise Torn(f"{name} cannot be read: {error}") from error
    if manifest.files[name] != FileEntry(len(data), hashlib.sha256(data).hexdigest()):
        raise Torn(f"{name} is not what the manifest says")
    return data


def check(path: Path) -> Manifest:
    """The manifest of a whole checkpoint, every byte looked at; raises Torn."""
    manifest = read_manifest(path)
    for name in manifest.files:
        read_checked(path, manifest, name)
    return manifest


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
