"""The parts that the ranks of a run write of one checkpoint, and how they come together; used by the saver's background threads.

Ranks must not talk to each other from a thread beside the training, so they meet in the directory of the unfinished checkpoint.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from services.trainer.checkpoint_files import SHARED, FileEntry, Manifest, rank_file
from services.trainer.training.checkpoint import write_tensors
from services.trainer.training.diagnosis.disk import check_room, is_full, size_of
from services.trainer.training.snapshot import Snapshot

_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a rank could not write its part; `reason` is one of the catalogue."""

    reason: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """What the operating system said, or whatever else went wrong."""
        return cls("DISK_FULL" if is_full(error) else "CHECKPOINT_FAILED", str(error) or type(error).__name__)


class PartMissing(Exception):
    """A rank could not write its part; the message says which and why."""

    def __init__(self, rank: int, trouble: Trouble) -> None:
        super().__init__(f"rank {rank} could not write its part: {trouble.message}")
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank has to write."""

    work: Path
    """The directory of the unfinished checkpoint; the same for all ranks."""
    rank: int
    rank_count: int
    snapshot: Snapshot
    manifest: Manifest
    """Without files."""


def write(part: Part) -> dict[str, FileEntry]:
    """This rank's files, durable; raises OSError."""
    tensors = {rank_file(part.rank): part.snapshot.own} | ({SHARED: part.snapshot.shared} if part.rank == 0 else {})
    check_room(part.work.parent, size_of(tensors.values()))
    part.work.mkdir(parents=True, exist_ok=True)
    return {name: write_tensors(part.work, name, values) for name, values in tensors.items()}


def announce(part: Part, entries: Mapping[str, FileEntry], trouble: Trouble | None) -> None:
    """Tells the first rank what came of this rank's part; raises OSError."""
    record = {
        "trouble": asdict(trouble) if trouble else None,
        "entries": {name: asdict(entry) for name, entry in entries.items()},
    }
    target = _announcement(part.work, part.rank)
    scratch = target.with_name(f".{target.name}")
    scratch.write_text(json.dumps(record))
    os.rename(scratch, target)


def gather(part: Part, *, seconds: float, clock: Callable[[], float]) -> dict[str, FileEntry]:
    """The files of all other ranks; raises PartMissing and OSError."""
    found: dict[str, FileEntry] = {}
    deadline = clock() + seconds
    for rank in range(1, part.rank_count):
        announcement = _announcement(part.work, rank)
        while not announcement.exists():
            if clock() >= deadline:
                raise PartMissing(rank, Trouble("CHECKPOINT_FAILED", f"it took longer than {seconds:g} s"))
            time.sleep(_PAUSE_SECONDS)
        record = json.loads(announcement.read_text())
        if record["trouble"]:
            raise PartMissing(rank, Trouble(**record["trouble"]))
        found |= {name: FileEntry(**entry) for name, entry in record["entries"].items()}
        announcement.unlink()
    return found


def _announcement(work: Path, rank: int) -> Path:
    return work / f"rank-{rank}.part"
