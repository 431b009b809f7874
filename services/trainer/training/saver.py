"""When a checkpoint is written, and the thread beside the training that writes it; used by the loop.

Training stands still only while weights and moments are copied. One checkpoint is written at a time: the next one waits for it.
"""

import concurrent.futures
import contextlib
import dataclasses
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from services.trainer import wishes
from services.trainer.checkpoint_files import FileEntry, Manifest
from services.trainer.training import parts
from services.trainer.training.checkpoint import commit
from services.trainer.training.config import Hyperparameters
from services.trainer.training.engine import Engine
from services.trainer.training.events import EventSink
from services.trainer.training.parts import Part, PartMissing, Trouble
from services.trainer.training.progress import Progress
from services.trainer.training.retention import prune, unfinished

_log = logging.getLogger("tunesmith.training")

_PART_SECONDS = 300.0
_BEAT_SECONDS = 5.0


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
        self._threads = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None
        self._step = 0

    def is_due(self, step: int) -> bool:
        """Whether this rank wants a checkpoint after `step`; clocks differ, so the ranks have to agree on it."""
        numbers = self._numbers
        by_steps = numbers.save_steps is not None and step % numbers.save_steps == 0
        interval = numbers.save_interval_seconds
        by_time = interval is not None and self._clock() - self._since >= interval
        return by_steps or by_time or wishes.are_there(self._directory)

    def save(self, engine: Engine, progress: Progress) -> None:
        """Begins a checkpoint of this moment; every rank calls it after the same step."""
        self.wait()
        labels = wishes.taken(self._directory) if engine.rank == 0 else ()
        # What an earlier process has left in a directory of the same step must not be taken for a part of this one.
        tickets = engine.exchange([secrets.randbits(62)])
        manifest = Manifest(progress.done, self._identity, asdict(progress), {}, labels)
        work = unfinished(self._directory, progress.done, tickets[0][0])
        part = Part(work, engine.rank, len(tickets), engine.snapshot(), manifest)
        self._step = progress.done
        self._sink.beat(progress.done, "saving")
        self._writing = self._threads.submit(self._write, part)
        self._since = self._clock()

    def wait(self) -> None:
        """Until what was begun is durable or given up."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            while not concurrent.futures.wait([writing], timeout=_BEAT_SECONDS).done:
                self._sink.beat(self._step, "busy")
            writing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.wait()
        finally:
            self._threads.shutdown()

    def _write(self, part: Part) -> None:
        try:
            self._write_part(part)
        finally:
            self._sink.beat(part.manifest.step, "saved")

    def _write_part(self, part: Part) -> None:
        entries: dict[str, FileEntry] = {}
        trouble: Trouble | None = None
        try:
            entries = parts.write(part)
        except Exception as error:  # whatever it is, the run goes on without this checkpoint
            trouble = Trouble.of(error)
            _log.warning("no checkpoint: rank %s could not write its part: %s", part.rank, error)
        if part.rank > 0:
            with contextlib.suppress(OSError):
                parts.announce(part, entries, trouble)
        elif trouble is not None:
            self._give_up(part, trouble.reason, str(PartMissing(0, trouble)))
        else:
            self._commit(part, entries)

    def _commit(self, part: Part, entries: Mapping[str, FileEntry]) -> None:
        try:
            files = dict(entries) | parts.gather(part, seconds=_PART_SECONDS, clock=time.monotonic)
            manifest = dataclasses.replace(part.manifest, files=files)
            path = commit(part.work, self._directory, manifest)
        except PartMissing as error:
            return self._give_up(part, error.trouble.reason, str(error))
        except Exception as error:
            return self._give_up(part, Trouble.of(error).reason, str(error))
        self._sink.checkpoint_saved(manifest.step, path.name, manifest.size, manifest.metrics)
        with contextlib.suppress(OSError):
            prune(self._directory, self._numbers.save_total_limit, self._identity)
        return None

    def _give_up(self, part: Part, reason: str, cause: str) -> None:
        with contextlib.suppress(OSError):
            shutil.rmtree(part.work)
        step = part.manifest.step
        self._sink.anomaly(reason, f"no checkpoint of step {step}: {cause}; training goes on", step)
