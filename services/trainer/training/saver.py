"""When a checkpoint is written and how the ranks write it together; used by the loop."""

import contextlib
import logging
import shutil
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from services.trainer.training.checkpoint import SHARED, FileEntry, Manifest, commit, rank_file, write_tensors
from services.trainer.training.config import Hyperparameters
from services.trainer.training.diagnosis.disk import check_room, is_full, size_of
from services.trainer.training.engine import Engine
from services.trainer.training.events import EventSink
from services.trainer.training.progress import Progress
from services.trainer.training.retention import prune, unfinished
from services.trainer.training.snapshot import Snapshot

_log = logging.getLogger("tunesmith.training")
_FAILED = [0] * 6


class Saver:
    """One rank's; `clock` gives seconds. A checkpoint that cannot be written is an anomaly, never the end of the run."""

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, Any],
        numbers: Hyperparameters,
        *,
        sink: EventSink,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._identity = identity
        self._numbers = numbers
        self._sink = sink
        self._clock = clock
        self._since = clock()
        self._trouble = ""
        self._reason = "CHECKPOINT_FAILED"

    def is_due(self, step: int) -> bool:
        """Whether this rank wants a checkpoint after `step`; clocks differ, so the ranks have to agree on it."""
        numbers = self._numbers
        by_steps = numbers.save_steps is not None and step % numbers.save_steps == 0
        interval = numbers.save_interval_seconds
        return by_steps or (interval is not None and self._clock() - self._since >= interval)

    def save(self, engine: Engine, progress: Progress) -> None:
        """A checkpoint of this moment; every rank calls it after the same step."""
        work = unfinished(self._directory, progress.done)
        entries = self._write(work, engine.rank, engine.snapshot())
        parts = [_decoded(values) for values in engine.exchange(_encoded(entries.get(rank_file(engine.rank))))]
        if engine.rank == 0:
            self._commit(work, progress, entries, parts)
        self._since = self._clock()

    def _write(self, work: Path, rank: int, snapshot: Snapshot) -> dict[str, FileEntry]:
        self._trouble, self._reason = "", "CHECKPOINT_FAILED"
        tensors = {rank_file(rank): snapshot.own} | ({SHARED: snapshot.shared} if rank == 0 else {})
        try:
            check_room(self._directory, size_of(tensors.values()))
            work.mkdir(parents=True, exist_ok=True)
            return {name: write_tensors(work, name, values) for name, values in tensors.items()}
        except OSError as error:
            self._trouble = f"rank {rank} could not write its part: {error}"
            self._reason = "DISK_FULL" if is_full(error) else "CHECKPOINT_FAILED"
            _log.warning("no checkpoint: %s", self._trouble)
            return {}

    def _commit(
        self, work: Path, progress: Progress, entries: Mapping[str, FileEntry], parts: Sequence[FileEntry | None]
    ) -> None:
        if None in parts:
            ranks = ", ".join(str(rank) for rank, part in enumerate(parts) if part is None)
            return self._give_up(work, progress.done, self._trouble or f"rank {ranks} could not write its part")
        files = dict(entries) | {rank_file(rank): part for rank, part in enumerate(parts) if part}
        manifest = Manifest(progress.done, self._identity, asdict(progress), files)
        try:
            path = commit(work, self._directory, manifest)
        except OSError as error:
            self._reason = "DISK_FULL" if is_full(error) else "CHECKPOINT_FAILED"
            return self._give_up(work, progress.done, str(error))
        self._sink.checkpoint_saved(progress.done, path.name, manifest.size, progress.metrics)
        with contextlib.suppress(OSError):
            prune(self._directory, self._numbers.save_total_limit)
        return None

    def _give_up(self, work: Path, step: int, cause: str) -> None:
        with contextlib.suppress(OSError):
            shutil.rmtree(work)
        self._sink.anomaly(self._reason, f"no checkpoint of step {step}: {cause}; training goes on", step)


def _encoded(entry: FileEntry | None) -> list[int]:
    """Six numbers that ranks can exchange; all 0 = no file."""
    return [1, entry.size, *struct.unpack(">4q", bytes.fromhex(entry.sha256))] if entry else _FAILED


def _decoded(values: Sequence[int]) -> FileEntry | None:
    return FileEntry(values[1], struct.pack(">4q", *values[2:]).hex()) if values[0] else None
