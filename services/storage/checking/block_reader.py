"""Reads the rows of a block the fastest way that is certain, and tells what each is; used by `checker`.

Each way is for what the one before leaves: `plain_rows` and `tool_rows` decode rows of a known layout all at once, and check
them in the same step; `trusted_json` decodes rows of any layout all at once, for the checks of `row`; last, `row` alone finds out
what is wrong with a row's JSON.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from services.storage.checking.example import Batch, Example, Format, batch_of
from services.storage.checking.further_keys import Keys, learned
from services.storage.checking.line_source import MAX_ROW_BYTES, are_framed
from services.storage.checking.plain_rows import read_plain
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import read_row, read_value
from services.storage.checking.tool_rows import read_tool_rows
from services.storage.checking.trusted_json import trusted

Found = tuple[int, Batch | RowProblem]
"""The index of a row, and what begins there: a batch of good rows, or one bad row."""
_One = Batch | Example | RowProblem

_SLOWLY = 8
"""So few rows are read one by one when their JSON is in doubt."""


class BlockReader:
    """Takes the blocks of one file in order; what it remembers of them changes its speed, never its answers."""

    def __init__(self, max_bytes: int = MAX_ROW_BYTES) -> None:
        self._max_bytes = max_bytes
        self._further: Keys = ()

    def read(self, rows: Sequence[bytes], expected: Format | None, *, framed: bool = False) -> Iterator[Found]:
        """What the rows are, in order. `expected` is the format of the rows before; None = the first good row decides.

        `framed` says that every row is known to begin with { and to end with }.
        """
        start, index = 0, 0
        examples: list[Example] = []
        for found in self._read_all(rows, expected, framed):
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

    def _read_all(self, rows: Sequence[bytes], expected: Format | None, framed: bool) -> Iterator[_One]:
        start = 0
        while not expected and start < len(rows):
            found = self._read_one(rows[start], None)
            expected = found.format if isinstance(found, Example) else None
            yield found
            start += 1
        if expected and start < len(rows):
            yield from self._read(rows[start:], expected, framed)

    def _read(self, rows: Sequence[bytes], expected: Format, framed: bool) -> Iterator[_One]:
        """All at once, or one by one, or each half for itself."""
        short = max(map(len, rows)) <= self._max_bytes
        found = self._read_at_once(rows, expected) if short and (framed or are_framed(rows)) else None
        if found is not None:
            yield from found
        elif len(rows) <= _SLOWLY:
            for row in rows:
                yield self._read_one(row, expected)
        else:
            middle = len(rows) // 2
            yield from self._read(rows[:middle], expected, framed)
            yield from self._read(rows[middle:], expected, framed)

    def _read_at_once(self, rows: Sequence[bytes], expected: Format) -> Iterable[_One] | None:
        """None = a row may be no JSON that we want."""
        text = b"\n".join(rows)
        if batch := self._read_certain(text, expected):
            return [batch]
        values = trusted(rows, text, framed=True)
        if values is None:
            return None
        known, self._further = self._further, learned(self._further, values, expected)
        if self._further != known and (batch := self._read_certain(text, expected)):
            return [batch]
        return [_checked(read_value, value, expected) for value in values]

    def _read_certain(self, text: bytes, expected: Format) -> Batch | None:
        batch = read_plain(expected, text, self._further)
        return batch or (read_tool_rows(text, self._further) if expected is Format.CHAT else None)

    def _read_one(self, row: bytes, expected: Format | None) -> Example | RowProblem:
        return too_long(self._max_bytes) if len(row) > self._max_bytes else _checked(read_row, row, expected)


def _checked(read: Callable[[Any, Format | None], Example], row: Any, expected: Format | None) -> Example | RowProblem:
    try:
        return read(row, expected)
    except RowProblem as problem:
        return problem


def too_long(max_bytes: int) -> RowProblem:
    """The problem of a row that nobody reads."""
    return RowProblem("DATASET_LINE_TOO_LONG", "", f"the row is longer than {max_bytes} bytes")
