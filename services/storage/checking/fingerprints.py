"""Finds rows that repeat, in bounded memory; used by `tally`.

A row is kept as two hashes of 8 bytes and a line number of 4, for the first 8,388,608 rows (168 MB, and as much again while
they are compared at the end); rows behind are not compared, and the report says so. The hashes are Python's own, keyed anew in
each process, so that nobody can make rows that collide.
"""

import collections
import dataclasses
from array import array
from collections.abc import Iterator, Sequence

from services.storage.checking.example import Batch

MAX_ROWS = 2**23
_BUCKETS = 64
_SHOWN = 5
# Only the first this many repeated rows are looked up for their lines.
_LOOKED_UP = 2**17
_ROW_SEPARATOR = "\x1e"
_LOWER = bytes(ord(chr(code).lower()) if code < 128 else code for code in range(256))
_IGNORED = bytes(code for code in range(128) if not chr(code).isalpha() and chr(code) != _ROW_SEPARATOR)


@dataclasses.dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that repeat an earlier one, and the first lines of them."""

    exact: int
    near: int
    """Equal but for the case of ASCII letters, digits, ASCII punctuation and white space; not among `exact`."""
    exact_lines: Sequence[int]
    near_lines: Sequence[int]
    compared: int
    """Rows that were compared."""


class Fingerprints:
    """Takes batches in the order of the file."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._exact, self._near, self._lines = array("q"), array("q"), array("I")
        self._max_rows = max_rows

    def add(self, batch: Batch, lines: Sequence[int]) -> None:
        """Remembers the rows of a batch."""
        if len(self._lines) + len(batch.texts) > self._max_rows:
            self._max_rows = len(self._lines)
            return
        self._exact.extend(map(hash, zip(batch.shapes, batch.texts, strict=True)))
        self._near.extend(map(hash, zip(batch.shapes, _normal_forms(batch.texts), strict=True)))
        self._lines.extend([line & 0xFFFFFFFF for line in lines])

    def repeats(self) -> Repeats:
        """Compares all rows; call it once, at the end."""
        distinct, repeated = _distinct(self._exact)
        distinct_near, repeated_near = _distinct(self._near)
        exact_lines = list(self._repeated_lines(repeated))
        near_lines = list(self._near_lines(repeated_near)) if distinct > distinct_near else []
        return Repeats(len(self._lines) - distinct, distinct - distinct_near, exact_lines, near_lines, len(self._lines))

    def _repeated_lines(self, repeated: set[int]) -> Iterator[int]:
        seen: set[int] = set()
        found = 0
        for value, line in zip(self._exact if repeated else (), self._lines, strict=False):
            if value in repeated:
                if value in seen:
                    yield line
                    found += 1
                    if found == _SHOWN:
                        return
                seen.add(value)

    def _near_lines(self, repeated: set[int]) -> Iterator[int]:
        seen: dict[int, set[int]] = {}
        found = 0
        for exact, near, line in zip(self._exact, self._near, self._lines, strict=True):
            if near not in repeated:
                continue
            if near in seen and exact not in seen[near]:
                yield line
                found += 1
                if found == _SHOWN:
                    return
            seen.setdefault(near, set()).add(exact)


def _distinct(values: "array[int]") -> tuple[int, set[int]]:
    """How many different values there are, and those that occur more than once (at most 131,072 of them)."""
    count, repeated = 0, set[int]()
    for bucket in _buckets(values):
        different = set(bucket)
        count += len(different)
        if len(different) < len(bucket) and len(repeated) < _LOOKED_UP:
            repeated.update(value for value, times in collections.Counter(bucket).items() if times > 1)
    return count, repeated


def _buckets(values: "array[int]") -> "list[array[int]]":
    """Equal values land in the same part; one set of all of them would take ten times the memory."""
    if len(values) < 2**16:
        return [values]
    buckets = [array("q") for _ in range(_BUCKETS)]
    appends = [bucket.append for bucket in buckets]
    for value in values:
        appends[value & (_BUCKETS - 1)](value)
    return buckets


def _normal_forms(texts: Sequence[str]) -> Sequence[bytes]:
    forms = _ROW_SEPARATOR.join(texts).encode().translate(_LOWER, _IGNORED).split(_ROW_SEPARATOR.encode())
    if len(forms) == len(texts):
        return forms
    # A text holds the separator itself.
    return [text.encode().translate(_LOWER, _IGNORED) for text in texts]
