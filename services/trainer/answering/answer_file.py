"""Answers on disk, a JSON line each, durable before they count; whoever opens the file after a crash goes on where it stopped."""

import dataclasses
import json
import os
import pathlib
import threading
from typing import Self

from services.trainer.evaluating.values import Answer


class AnswerFile:
    """The answers of one model to one set of questions. One process writes it; its threads may."""

    def __init__(self, descriptor: int, model: str, places: dict[int, int]) -> None:
        self.model = model
        """Who answers."""
        self._descriptor = descriptor
        self._places = places
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: pathlib.Path, model: str, about: str = "") -> Self:
        """The file with every answer that was written whole. Answers of another model than `model`, and those `about` what
        another model has said, are dropped: they are no answers to this question. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            header = json.dumps({"model": model} | ({"about": about} if about else {})).encode() + b"\n"
            places = _repair(descriptor, header)
            if places is None:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, header, 0)
                os.fsync(descriptor)
                places = {}
            return cls(descriptor, model, places)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def reopen(cls, path: pathlib.Path) -> Self:
        """As it was opened last. Raises OSError, and ValueError when it was cut before its first answer."""
        with path.open("rb") as file:
            return cls.open(path, **json.loads(file.readline()))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, row: int) -> bool:
        return row in self._places

    def __getitem__(self, row: int) -> Answer:
        """Raises KeyError for a row that has no answer yet."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file, self._lock:
            file.seek(self._places[row])
            return Answer(**json.loads(file.readline()))

    def append(self, answer: Answer) -> None:
        """Returns when the answer is on disk; a second answer to a row is dropped. Raises OSError."""
        line = json.dumps(dataclasses.asdict(answer), separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if answer.row in self._places:
                return
            place = os.fstat(self._descriptor).st_size
            try:
                _write(self._descriptor, line, place)
            except OSError:
                # A full disk may take half a line.
                os.ftruncate(self._descriptor, place)
                raise
            self._places[answer.row] = place

    def close(self) -> None:
        """Once, at the end."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write(descriptor: int, data: bytes, place: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        data, place = data[written:], place + written
    os.fsync(descriptor)


def _repair(descriptor: int, header: bytes) -> dict[int, int] | None:
    """Where the answer of each row begins, after what a crash has cut is cut off; None when the header is another."""
    places: dict[int, int] = {}
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        if file.readline() != header:
            return None
        end = len(header)
        for line in file:
            if not line.endswith(b"\n"):
                break
            places.setdefault(json.loads(line)["row"], end)
            end += len(line)
    os.ftruncate(descriptor, end)
    return places
