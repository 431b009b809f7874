"""Composes training and validation rows from downloaded datasets: weights and the split; used by preparation.

Everything follows from the seed and the content of the rows, and memory does not grow with the data: rows are read again for each
question instead of being kept. A row's rank is a hash of the seed and its bytes, so equal rows have equal ranks.
"""

import array
import collections
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from services.common.errors import ServiceError
from services.trainer.training.row_numbers import numbers_beside

_KEY_BITS = 64
_BUCKET_BITS = 16


class Stopped(Exception):
    """Composing was not wanted any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """The rows of one dataset, a JSON object a line, and how often each is seen in one pass."""

    path: pathlib.Path
    weight: float


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """What was held out of the rows; both numbers decide which."""

    ratio: float
    seed: int


@dataclasses.dataclass(frozen=True, slots=True)
class RowCounts:
    """What was composed."""

    training: tuple[int, ...]
    """Rows of one pass, by dataset."""
    validation: int
    """Rows held out."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Ranked:
    """The key at some place in ascending order, and how many rows have a smaller and the same one."""

    key: int
    below: int
    equal: int


@dataclasses.dataclass(slots=True)
class _Choice:
    """Takes every row with a key below `key`, and the first `ties` of those that have it."""

    key: int
    ties: int

    def takes(self, key: int) -> bool:
        """Rows are to be asked for in order."""
        if key == self.key and self.ties > 0:
            self.ties -= 1
            return True
        return key < self.key


class Composer:
    """One composition. `should_stop` is asked at every row."""

    def __init__(self, parts: Sequence[Part], *, seed: int, should_stop: Callable[[], bool] = lambda: False) -> None:
        self._parts = parts
        self._seeded = hashlib.sha256(f"{seed}\n".encode())
        self._should_stop = should_stop

    def compose(self, split_ratio: float | None, training: pathlib.Path, validation: pathlib.Path) -> RowCounts:
        """Writes the files; `validation` only with a ratio. A weight of 2.5 gives every row twice and half of them once more.

        As many rows are held out as come nearest to the ratio without parting equal rows, at least one and never all; each once,
        whatever its dataset's weight. Of a single dataset, a file beside `training` says which of its rows each row is. Raises
        ServiceError DATASET_UNUSABLE, Stopped, OSError.
        """
        highest = self._highest_held_out(split_ratio) if split_ratio is not None else -1
        origins = numbers_beside(training) if len(self._parts) == 1 else None
        with (
            _Writer(training) as train,
            _Writer(validation if split_ratio is not None else None) as held_out,
            _Writer(origins) as numbers,
        ):
            counts = tuple(self._write_part(part, highest, train, held_out, numbers) for part in self._parts)
        rows = tuple(training_rows for training_rows, _ in counts)
        if not any(rows):
            raise ServiceError("DATASET_UNUSABLE", "the weights of the mixture leave no row to train on")
        return RowCounts(rows, sum(validation_rows for _, validation_rows in counts))

    def held_out(self, split_ratio: float) -> Callable[[bytes], bool]:
        """Whether a row, without its line end, is held out; raises as `compose`."""
        highest = self._highest_held_out(split_ratio)
        return lambda row: self._key(row) <= highest

    def _write_part(self, part: Part, highest: int, train: "_Writer", held_out: "_Writer", numbers: "_Writer") -> tuple[int, int]:
        rows = sum(1 for _, key in self._rows(part) if key > highest)
        copies, rest = divmod(round(rows * part.weight), rows) if rows else (0, 0)
        choice = self._smallest(part, highest, rest)
        for number, (row, key) in enumerate(self._rows(part), start=1):
            if key <= highest:
                held_out.write(row)
            else:
                count = copies + choice.takes(key)
                train.write(row, count)
                numbers.write(b"%d" % number, count)
        return train.take_count(), held_out.take_count()

    def _smallest(self, part: Part, highest: int, count: int) -> _Choice:
        """The `count` rows of smallest key that are not held out."""
        if not count:
            return _Choice(-1, 0)
        ranked = _ranked(lambda: (key for _, key in self._rows(part) if key > highest), count)
        return _Choice(ranked.key, count - ranked.below)

    def _highest_held_out(self, ratio: float) -> int:
        """Rows up to this key are held out."""

        def keys() -> Iterator[int]:
            return (key for part in self._parts for _, key in self._rows(part))

        total = sum(1 for _ in keys())
        if total < 2:
            raise ServiceError("DATASET_UNUSABLE", f"{total} rows cannot be split into training and validation data")
        target = min(max(1, round(total * ratio)), total - 1)
        ranked = _ranked(keys, target)
        with_it = ranked.below + ranked.equal
        if not ranked.below and with_it == total:
            raise ServiceError("DATASET_UNUSABLE", "all rows are equal, so none can be held out as validation data")
        is_nearer_without = ranked.below and target - ranked.below < with_it - target
        return ranked.key - 1 if with_it == total or is_nearer_without else ranked.key

    def _rows(self, part: Part) -> Iterator[tuple[bytes, int]]:
        """Every row without its line end, and its key."""
        with part.path.open("rb") as lines:
            for line in lines:
                if self._should_stop():
                    raise Stopped
                if row := line.strip():
                    yield row, self._key(row)

    def _key(self, row: bytes) -> int:
        hashed = self._seeded.copy()
        hashed.update(row)
        return int.from_bytes(hashed.digest()[: _KEY_BITS // 8])


class _Writer:
    """Lines of a file that appears whole or not at all; without a path, nothing is written."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self._path = path
        self._scratch = path.with_name(f".{path.name}") if path else None
        self._file = self._scratch.open("wb") if self._scratch else None
        self._count = 0

    def write(self, row: bytes, copies: int = 1) -> None:
        if self._file is not None:
            self._file.write((row + b"\n") * copies)
        self._count += copies

    def take_count(self) -> int:
        """Rows written since this was asked last."""
        count, self._count = self._count, 0
        return count

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file is None or self._scratch is None or self._path is None:
            return
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        if kind is None:
            self._scratch.rename(self._path)


def _ranked(keys: Callable[[], Iterator[int]], rank: int) -> _Ranked:
    """The key at `rank`, from 1, in ascending order. Reads the keys twice: the first time to find its neighbourhood."""
    shift = _KEY_BITS - _BUCKET_BITS
    buckets = array.array("Q", bytes(8 << _BUCKET_BITS))
    for key in keys():
        buckets[key >> shift] += 1
    below = bucket = 0
    while below + buckets[bucket] < rank:
        below += buckets[bucket]
        bucket += 1
    neighbours = collections.Counter(key for key in keys() if key >> shift == bucket)
    for key, equal in sorted(neighbours.items()):
        if below + equal >= rank:
            return _Ranked(key, below, equal)
        below += equal
    raise ValueError(f"there is no key at rank {rank}")
