"""Reads a journal while it is being written; used by the event streams, by the run's state and by the keeper."""

import json
import os
import pathlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from services.trainer.journal import Record, sequence_of

_BLOCK = 256 * 1024
_TAIL = 4 * 1024 * 1024


class JournalReader:
    """Goes through a journal once, from the start or after an event; each `read` returns what is new, in bounded pieces."""

    def __init__(self, path: pathlib.Path, *, after_sequence: int = 0) -> None:
        self._path = path
        self._after = after_sequence
        self._descriptor = -1
        self._offset = 0

    def has_more(self) -> bool:
        """Whether there is something behind what was read, if only half a line: one question to the kernel, no thread needed."""
        try:
            status = os.fstat(self._descriptor) if self._descriptor >= 0 else os.stat(self._path)
        except FileNotFoundError:
            return False
        return status.st_size > self._offset

    def read(self) -> list[Record]:
        """The next complete records, about 256 KiB of them; empty when there is nothing new (yet) or no journal (yet)."""
        if self._descriptor < 0 and not self._open():
            return []
        while data := self._complete_lines():
            self._offset += len(data)
            if records := [json.loads(line) for line in data.splitlines() if self._wanted(line)]:
                return records
        return []

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> bool:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return True

    def _complete_lines(self) -> bytes:
        size = _BLOCK
        while True:
            data = os.pread(self._descriptor, size, self._offset)
            end = data.rfind(b"\n") + 1
            # The last line may be half written; a block without any line end may be the head of a long one.
            if end or len(data) < size:
                return data[:end]
            size *= 2

    def _wanted(self, line: bytes) -> bool:
        sequence = sequence_of(line)
        return sequence == 0 or sequence > self._after


def read(path: pathlib.Path, *, after_sequence: int = 0) -> Iterator[Record]:
    """Every record that is there now: all control records, and the events after `after_sequence`."""
    with JournalReader(path, after_sequence=after_sequence) as reader:
        while records := reader.read():
            yield from records


def tail(path: pathlib.Path, *, size: int = _TAIL) -> Iterator[Record]:
    """The complete records in the last `size` bytes, oldest first."""
    try:
        with path.open("rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - size)
            file.seek(start)
            if start:
                file.readline()
            lines = file.readlines()
    except FileNotFoundError:
        return
    yield from (json.loads(line) for line in lines if line.endswith(b"\n"))
