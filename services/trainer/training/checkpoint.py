"""The tensors of a checkpoint on disk, and the rename that makes it exist; written by the saver, read by resume.

What a checkpoint is, and what proves it, is said in `services.trainer.checkpoint_files`.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, numpy
from safetensors.torch import load, save
from torch import Tensor

from services.trainer.checkpoint_files import MANIFEST, FileEntry, Manifest, Torn, encoded, read_checked
from services.trainer.training.durable import exchange, sync_directory, write_file


def write_tensors(directory: Path, name: str, tensors: Mapping[str, Tensor]) -> FileEntry:
    """One file of a checkpoint that is not committed yet. `tensors` lie on the CPU, each in memory of its own."""
    data = _serialized(tensors)
    write_file(directory / name, data)
    return FileEntry(len(data), hashlib.sha256(data).hexdigest())


def commit(work: Path, directory: Path, manifest: Manifest) -> Path:
    """Turns `work`, which has all files, into `directory/step-N`; the rename is the moment from which it exists."""
    write_file(work / MANIFEST, encoded(manifest))
    sync_directory(work)
    target = directory / f"step-{manifest.step}"
    if target.exists():
        _replace(work, target)
    else:
        os.rename(work, target)
    sync_directory(directory)
    return target


def _replace(work: Path, target: Path) -> None:
    """The one that was there may be whole: torn ones are replaced, and those whose weights have been evaluated since."""
    try:
        exchange(work, target)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        # Without the call there is an instant with neither; the one before them is then the newest.
        os.rename(target, aside := work.with_name(f"{work.name}.part"))
        os.rename(work, target)
        work = aside
    shutil.rmtree(work, ignore_errors=True)


def read_tensors(path: Path, manifest: Manifest, name: str) -> dict[str, Tensor]:
    """One file of a checkpoint, checked and parsed from the same bytes; raises Torn."""
    try:
        return dict(load(read_checked(path, manifest, name)))
    except (SafetensorError, KeyError) as error:
        raise Torn(f"{name}: {error}") from error


def _serialized(tensors: Mapping[str, Tensor]) -> bytes:
    # The same bytes; for the thousand small tensors of an adapter the way over numpy takes less than half the time.
    if any(tensor.dtype is torch.bfloat16 for tensor in tensors.values()):  # numpy has no such type
        return bytes(save(dict(tensors)))
    return bytes(numpy.save({name: tensor.numpy() for name, tensor in tensors.items()}))
