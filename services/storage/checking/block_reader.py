"""Reads the rows of a block the fastest way that is certain, and tells what each is; used by `checker`.

Three ways, each for what the one before leaves: `plain_rows` counts rows all at once; `trusted_json` decodes them all at once for
the checks of `row`; and `row` alone, which also finds out what is wrong with a row that is no JSON.
"""

from collections.abc import Iterator, Sequence

from services.storage.checking.example import Batch, Format, merged
from services.storage.checking.plain_rows import read_open, read_plain
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import read_row, read_value
from services.storage.checking.trusted_json import trusted

Found = tuple[int, Batch | RowProblem]
"""The index of a row, and what begins there: a batch of good rows, or one bad row."""

_SLOWLY = 8
"""So few rows are read one by one when their JSON is in doubt."""


def read_rows(rows: Sequence[bytes], expected: Format | None, *, max_bytes: int, framed: bool) -> Iterator[Found]:
    """What the rows are, in order. `expected` is the format of the rows before; None = the first good row decides."""
    start = 0
    while expected is None and start < len(rows):
        found = _read_one(rows[start], None, max_bytes)
        expected = found.format if isinstance(found, Batch) else None
        yield start, found
        start += 1
    if expected and start < len(rows):
        yield from _read(rows[start:], start, expected, max_bytes=max_bytes, framed=framed)


def _read(rows: Sequence[bytes], first: int, expected: Format, *, max_bytes: int, framed: bool) -> Iterator[Found]:
    """All at once, or one by one, or each half for itself; `first` is the index of the first row."""
    found = _read_at_once(rows, expected, framed) if max(map(len, rows)) <= max_bytes else None
    if found is not None:
        yield from ((first + index, what) for index, what in found)
    elif len(rows) <= _SLOWLY:
        yield from ((index, _read_one(row, expected, max_bytes)) for index, row in enumerate(rows, start=first))
    else:
        middle = len(rows) // 2
        yield from _read(rows[:middle], first, expected, max_bytes=max_bytes, framed=framed)
        yield from _read(rows[middle:], first + middle, expected, max_bytes=max_bytes, framed=framed)


def _read_at_once(rows: Sequence[bytes], expected: Format, framed: bool) -> list[Found] | None:
    """None = a row may be no JSON that we want."""
    text = b"\n".join(rows)
    if batch := read_plain(rows, expected, text, framed=framed):
        return [(0, batch)]
    values = trusted(rows, text, framed=framed)
    if values is None:
        return None
    if batch := read_open(values, expected, text):
        return [(0, batch)]
    found: list[Found] = []
    good: list[Batch] = []
    for index, value in enumerate(values):
        try:
            good.append(read_value(value, expected))
        except RowProblem as problem:
            found += [*_run(good, index), (index, problem)]
            good = []
    return found + _run(good, len(values))


def _run(good: Sequence[Batch], end: int) -> list[Found]:
    return [(end - len(good), merged(good))] if good else []


def _read_one(row: bytes, expected: Format | None, max_bytes: int) -> Batch | RowProblem:
    if len(row) > max_bytes:
        return too_long(max_bytes)
    try:
        return read_row(row, expected)
    except RowProblem as problem:
        return problem


def too_long(max_bytes: int) -> RowProblem:
    """The problem of a row that nobody reads."""
    return RowProblem("DATASET_LINE_TOO_LONG", "", f"the row is longer than {max_bytes} bytes")
