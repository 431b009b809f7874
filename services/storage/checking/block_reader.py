"""Reads the rows of a block the fastest way that is certain, and tells what each is; used by `checker`.

Each way is for what the one before leaves: `plain_rows` counts rows all at once; `trusted_json` decodes them all at once, for
`plain_rows` again, for `tool_rows`, and for the checks of `row`; last, `row` alone finds out what is wrong with a row's JSON.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from services.storage.checking.example import Batch, Example, Format, batch_of
from services.storage.checking.plain_rows import read_open, read_plain
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import read_row, read_value
from services.storage.checking.tool_rows import read_tool_rows
from services.storage.checking.trusted_json import trusted

Found = tuple[int, Batch | RowProblem]
"""The index of a row, and what begins there: a batch of good rows, or one bad row."""
_One = Batch | Example | RowProblem

_SLOWLY = 8
"""So few rows are read one by one when their JSON is in doubt."""


def read_rows(rows: Sequence[bytes], expected: Format | None, *, max_bytes: int, framed: bool) -> Iterator[Found]:
    """What the rows are, in order. `expected` is the format of the rows before; None = the first good row decides."""
    start, index = 0, 0
    examples: list[Example] = []
    for found in _read_all(rows, expected, max_bytes=max_bytes, framed=framed):
        if isinstance(found, Example):
            examples.append(found)
            index += 1
            continue
        # Counting many rows at once is faster than one by one.
        if examples:
            yield start, batch_of(examples)
            examples = []
        yield index, found
        index = start = index + (len(found.texts) if isinstance(found, Batch) else 1)
    if examples:
        yield start, batch_of(examples)


def _read_all(rows: Sequence[bytes], expected: Format | None, *, max_bytes: int, framed: bool) -> Iterator[_One]:
    start = 0
    while not expected and start < len(rows):
        found = _read_one(rows[start], None, max_bytes)
        expected = found.format if isinstance(found, Example) else None
        yield found
        start += 1
    if expected and start < len(rows):
        yield from _read(rows[start:], expected, max_bytes=max_bytes, framed=framed)


def _read(rows: Sequence[bytes], expected: Format, *, max_bytes: int, framed: bool) -> Iterator[_One]:
    """All at once, or one by one, or each half for itself."""
    found = _read_at_once(rows, expected, framed) if max(map(len, rows)) <= max_bytes else None
    if found is not None:
        yield from found
    elif len(rows) <= _SLOWLY:
        for row in rows:
            yield _read_one(row, expected, max_bytes)
    else:
        middle = len(rows) // 2
        yield from _read(rows[:middle], expected, max_bytes=max_bytes, framed=framed)
        yield from _read(rows[middle:], expected, max_bytes=max_bytes, framed=framed)


def _read_at_once(rows: Sequence[bytes], expected: Format, framed: bool) -> Iterable[_One] | None:
    """None = a row may be no JSON that we want."""
    text = b"\n".join(rows)
    if batch := read_plain(rows, expected, text, framed=framed):
        return [batch]
    values = trusted(rows, text, framed=framed)
    if values is None:
        return None
    if batch := read_open(values, expected, text):
        return [batch]
    if expected is Format.CHAT and (examples := read_tool_rows(values, text)):
        return examples
    return [_checked(read_value, value, expected) for value in values]


def _read_one(row: bytes, expected: Format | None, max_bytes: int) -> Example | RowProblem:
    return too_long(max_bytes) if len(row) > max_bytes else _checked(read_row, row, expected)


def _checked(read: Callable[[Any, Format | None], Example], row: Any, expected: Format | None) -> Example | RowProblem:
    try:
        return read(row, expected)
    except RowProblem as problem:
        return problem


def too_long(max_bytes: int) -> RowProblem:
    """The problem of a row that nobody reads."""
    return RowProblem("DATASET_LINE_TOO_LONG", "", f"the row is longer than {max_bytes} bytes")
