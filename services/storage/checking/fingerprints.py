"""Finds rows that repeat, in bounded memory; used by `tally`.

A row is kept as two hashes of 8 bytes and a line number of 4, for the first 8,388,608 rows (168 MB, and as much again while
they are compared at the end); rows behind are not compared, and the report says so. The hashes are Python's own, keyed anew in
each process, so that nobody can make rows that collide.
"""

import collections
import dataclasses
from array import array
from collections.abc import Iterable, Iterator, Sequence

from services.storage.checking.example import Batch, Shape

MAX_ROWS = 2**23
_BUCKETS = 64
_SHOWN = 5
_MAX_LINE = 2**32 - 1
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
        room = self._max_rows - len(self._lines)
        if not room:
            return
        shapes, texts, lines = _hashes(batch.shapes[:room]), batch.texts[:room], lines[:room]
        self._exact.extend(map(hash, zip(shapes, texts, strict=True)))
        self._near.extend(map(hash, zip(shapes, _normal_forms(texts), strict=True)))
        # Line numbers behind four billion lose their highest digits, nothing else.
        self._lines.extend(lines if lines[-1] <= _MAX_LINE else [line & _MAX_LINE for line in lines])

    def repeats(self) -> Repeats:
        """Compares all rows; call it once, at the end."""
        rows, distinct, distinct_near = len(self._lines), 0, 0
        repeated, repeated_near = set[int](), set[int]()
        for near, exact in _buckets(self._near, self._exact):
            different = set(near)
            distinct_near += len(different)
            distinct += len(near)
            if len(different) < len(near):
                # Rows that are equal are nearly equal, too: only among these they need be looked for.
                again = _repeated(near)
                candidates = [value for key, value in zip(near, exact, strict=True) if key in again]
                distinct -= len(candidates) - len(set(candidates))
                if len(repeated_near) < _LOOKED_UP:
                    repeated_near |= again
                    repeated |= _repeated(candidates)
        exact_lines = list(self._repeated_lines(repeated))
        near_lines = list(self._near_lines(repeated_near)) if distinct > distinct_near else []
        return Repeats(rows - distinct, distinct - distinct_near, exact_lines, near_lines, rows)

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


def _hashes(shapes: Sequence[Shape]) -> Sequence[int]:
    if shapes.count(shapes[0]) == len(shapes):
        return [hash(shapes[0])] * len(shapes)
    return list(map(hash, shapes))


def _repeated(values: Iterable[int]) -> set[int]:
    return {value for value, times in collections.Counter(values).items() if times > 1}


def _buckets(keys: "array[int]", values: "array[int]") -> "Iterable[tuple[array[int], array[int]]]":
    """Equal keys land in the same part, with their values; one set of all keys would take ten times the memory."""
    if len(keys) < 2**16:
        return [(keys, values)]
    buckets = [(array("q"), array("q")) for _ in range(_BUCKETS)]
    appends = [(first.append, second.append) for first, second in buckets]
    for key, value in zip(keys, values, strict=True):
        append_key, append_value = appends[key & (_BUCKETS - 1)]
        append_key(key)
        append_value(value)
    return buckets


def _normal_forms(texts: Sequence[str]) -> Sequence[bytes]:
    forms = _ROW_SEPARATOR.join(texts).encode().translate(_LOWER, _IGNORED).split(_ROW_SEPARATOR.encode())
    if len(forms) == len(texts):
        return forms
    # A text holds the separator itself.
    return [text.encode().translate(_LOWER, _IGNORED) for text in texts]
