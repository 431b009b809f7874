"""Whether the disk has room for what a run is about to write; used before the first step and before every checkpoint."""

import errno
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from services.common.errors import ServiceError
from services.trainer.training.diagnosis.observation import Finding

RESERVE_BYTES = 32_000_000
"""Stays free for the journal and the log: a run that cannot tell what happens is worse than one without a checkpoint."""


def free_bytes(directory: Path) -> int:
    """What this user may still write where `directory` is or will be."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def size_of(parts: Iterable[Mapping[str, Tensor]]) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensors in parts for tensor in tensors.values())


def check_room(directory: Path, needed: int) -> None:
    """Raises OSError ENOSPC with the numbers before anything is written, so that nothing is torn."""
    if (free := free_bytes(directory)) < needed + RESERVE_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"it needs {_megabytes(needed)} and a reserve of {_megabytes(RESERVE_BYTES)}, "
            f"but {_megabytes(free)} are free on the disk",
        )


def is_full(error: BaseException) -> bool:
    """Whether an operation failed for lack of room."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def foreseen(directory: Path, *, checkpoint: int, kept: int, result: int) -> Finding | None:
    """Says so when the disk has room for the result and a checkpoint, but not for all that will be kept; all in bytes.

    Raises ServiceError DISK_FULL when the run could not even save its result and one checkpoint.
    """
    free = free_bytes(directory)
    least = checkpoint + result + RESERVE_BYTES
    # A new checkpoint is whole before an old one goes, and the best is kept beside the newest.
    most = checkpoint * (kept + 2) + result + RESERVE_BYTES
    numbers = (
        f"a checkpoint takes about {_megabytes(checkpoint)}, the result {_megabytes(result)}, and {_megabytes(free)} are free"
    )
    if free < least:
        raise ServiceError("DISK_FULL", f"the trainer's disk has no room for the run: {numbers}", metadata={"free": str(free)})
    if free < most:
        return Finding("DISK_FULL", f"{numbers}: not enough for the {kept + 2} that may lie side by side", 0)
    return None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
