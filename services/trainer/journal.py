"""The journal of a run, append-only JSON lines with one writer at a time; written by the run's supervisor and by its keeper.

Event records have a dense `sequence` from 1, a `time` (seconds since 1970) and a `kind`; control records have `control` and
`time`, and no number. Standard library only: the supervisor must start fast and stay small.
"""

import dataclasses
import fcntl
import json
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

EVENT_KINDS = frozenset(
    {
        "log",
        "metrics",
        "training_started",
        "anomaly",
        "artifact_created",
        "checkpoint_saved",
        "sample_generated",
        "answering_started",
        "evaluation_finished",
        "generation_finished",
        "rows_held_out",
    }
)
Record = dict[str, Any]

_EVENT_PREFIX = b'{"sequence":'


class JournalBusy(Exception):
    """Another process is the journal's writer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """A fact to append; `kind` is one of EVENT_KINDS."""

    kind: str
    fields: Mapping[str, Any]


class Journal:
    """The writer. Holds an exclusive lock on the file from `open` to `close`; the kernel drops it when the process dies."""

    def __init__(self, descriptor: int, sequence: int, clock: Callable[[], float]) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self.sequence = sequence
        """Number of the newest event; 0 = none yet."""

    @classmethod
    def open(cls, path: pathlib.Path, *, clock: Callable[[], float] = time.time) -> Self:
        """Becomes the writer, drops a last line that was cut by a crash and continues the numbering; raises JournalBusy."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor, path)
            return cls(descriptor, _repair(descriptor), clock)
        except BaseException:
            os.close(descriptor)
            raise

    def event(self, kind: str, **fields: Any) -> int:
        """Appends one event and returns its number."""
        self.events([Event(kind, fields)])
        return self.sequence

    def events(self, events: Sequence[Event]) -> None:
        """Appends events in order, with one write; all or none of them."""
        now = round(self._clock(), 6)
        lines = []
        for number, event in enumerate(events, self.sequence + 1):
            if event.kind not in EVENT_KINDS:
                raise ValueError(f"{event.kind!r} is not a kind of event")
            lines.append(_line({"sequence": number, "time": now, "kind": event.kind, **event.fields}))
        self._append(b"".join(lines))
        self.sequence += len(lines)

    def control(self, control: str, **fields: Any) -> None:
        """Appends a control record and waits until it is on disk: the run's fate hangs on it."""
        self._append(_line({"control": control, "time": round(self._clock(), 6), **fields}))
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Gives the journal to whoever comes next; may be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _append(self, data: bytes) -> None:
        end = os.fstat(self._descriptor).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            # A full disk may take half a line; the next append must not continue it.
            os.ftruncate(self._descriptor, end)
            raise


def is_busy(path: pathlib.Path) -> bool:
    """Whether somebody is the journal's writer at this moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        _lock(descriptor, path)
    except JournalBusy:
        return True
    finally:
        os.close(descriptor)
    return False


def sequence_of(line: bytes) -> int:
    """The number of an event's line without parsing it; 0 for a control record."""
    if not line.startswith(_EVENT_PREFIX):
        return 0
    return int(line[len(_EVENT_PREFIX) : line.index(b",")])


def _lock(descriptor: int, path: pathlib.Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalBusy(f"{path} has a writer") from error


def _repair(descriptor: int) -> int:
    sequence = end = 0
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        for line in file:
            if not line.endswith(b"\n"):
                os.ftruncate(descriptor, end)
                break
            end += len(line)
            sequence = sequence_of(line) or sequence
    return sequence


def _line(record: Record) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
