"""Rows of a file that is one JSON array, a chunk's worth at a time, in bounded memory; used by `checker`.

Elements are found by their brackets and quotes alone; whether they are JSON is for others to say.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, pairwise, repeat
from typing import overload

from services.storage.checking.array_elements import Objects, find_objects
from services.storage.checking.block import Block
from services.storage.checking.element_end import end_of_element
from services.storage.checking.json_text import parse
from services.storage.checking.line_source import MAX_ROW_BYTES
from services.storage.checking.problem import FileProblem, RowProblem

_CONTINUATION = bytes(range(0x80, 0xC0))
_BLANKS = re.compile(rb"[ \t\r\n]*")
_NEXT = re.compile(rb"[ \t\r\n]*+([,\]])[ \t\r\n]*+")


class ArraySource:
    """Takes chunks cut anywhere, from the opening bracket on; holds at most one element of `max_bytes` and a chunk.

    Raises FileProblem where the array itself is broken.
    """

    def __init__(self, max_bytes: int = MAX_ROW_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = b""
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._needed = 1
        self._line, self._column = 1, 1
        self._opened = self._closed = False
        self._empty = True

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """The elements that end in this chunk."""
        self._pieces.append(chunk)
        self._waiting += len(chunk)
        # A long element is looked at again only when twice as much of it is there: linear time however it is cut.
        if self._waiting >= self._needed:
            yield from self._scan(last=False)

    def finish(self) -> Iterator[Block]:
        """The rest; raises FileProblem when the array does not end."""
        yield from self._scan(last=True)
        if not self._closed:
            self._broken(0, last=True)

    def _scan(self, *, last: bool) -> Iterator[Block]:
        self._buffer += b"".join(self._pieces)
        self._pieces, self._waiting = [], 0
        at = self._open(_skip(self._buffer, 0))
        if self._opened and not self._closed:
            certain = find_objects(self._buffer, at)
            if certain.rows and (comma := _NEXT.match(self._buffer, certain.starts[-1] + len(certain.rows[-1]))):
                at = comma.end()
            others = Objects([], [])
            at = self._find_others(at, others)
            yield from [self._block(found) for found in (certain, others) if found.rows]
        self._drop(at)
        self._check_rest(last=last)

    def _find_others(self, at: int, found: Objects) -> int:
        """Appends elements from `at` on, one by one; returns where the next would begin."""
        while not self._closed and (end := end_of_element(self._buffer, at)):
            if not (following := _NEXT.match(self._buffer, end)):
                break
            found.rows.append(self._buffer[at:end])
            found.starts.append(at)
            at = following.end()
            # What follows a comma must be there too, or a comma before the end would be missed.
            self._closed = following[1] == b"]"
        return at

    def _open(self, at: int) -> int:
        """Skips the opening bracket, and the closing one of an array without elements."""
        if not self._opened and at < len(self._buffer):
            self._opened, at = True, _skip(self._buffer, at + 1)
        if self._empty and self._buffer[at : at + 1] == b"]":
            self._closed, at = True, at + 1
        return at

    def _block(self, found: Objects) -> Block:
        self._empty = False
        rows, starts, whole = found.rows, found.starts, self._are_whole(found)
        if not whole:
            rows = [row.replace(b"\n", b" ").replace(b"\r", b" ") for row in rows]
        columns = _Columns(self._buffer, starts, self._column)
        return Block(rows, self._lines(found, whole=whole), columns, () if whole else found.rows)

    def _are_whole(self, found: Objects) -> bool:
        """No row has a line end inside."""
        if found.space is None:
            return not [1 for row in found.rows if b"\n" in row or b"\r" in row]
        end, between = found.starts[-1] + len(found.rows[-1]), len(found.rows) - 1
        ends = (b"\n", b"\r")
        return all(self._buffer.count(each, found.starts[0], end) == between * found.space.count(each) for each in ends)

    def _lines(self, found: Objects, *, whole: bool) -> Sequence[int]:
        starts = found.starts
        first = self._line + self._buffer.count(b"\n", 0, starts[0])
        if whole and found.space is not None:
            step = found.space.count(b"\n")
            return range(first, first + step * len(starts), step) if step else [first] * len(starts)
        counts = map(self._buffer.count, repeat(b"\n"), starts[:-1], starts[1:])
        return list(accumulate(counts, initial=first))

    def _drop(self, at: int) -> None:
        self._line, self._column = _moved(self._buffer, 0, at, self._line, self._column)
        self._buffer = self._buffer[at:]
        self._needed = max(1, len(self._buffer))

    def _check_rest(self, *, last: bool) -> None:
        """Raises FileProblem for what can be no beginning of an element."""
        if self._closed:
            if rest := self._buffer.strip():
                at = _skip(self._buffer, 0)
                self._fail("DATASET_ARRAY_BROKEN", f"behind the end of the array there is {_shown(rest)}", at)
            return
        at = _skip(self._buffer, 0)
        if self._buffer[at : at + 1] in (b"]", b",") and self._buffer:
            self._fail("DATASET_COMMA", f"there is {_shown(self._buffer[at:])} where a row should be", at)
        end = end_of_element(self._buffer, at)
        after = _skip(self._buffer, end) if end else at
        if end and after < len(self._buffer):
            self._fail("DATASET_ARRAY_BROKEN", f"there is {_shown(self._buffer[after:])} where a comma should be", after)
        if len(self._buffer) > self._max_bytes and not last:
            self._broken(at, last=False)

    def _broken(self, at: int, *, last: bool) -> None:
        """The rest of the buffer is no element: it is broken inside, or too long, or the file ends in it."""
        at = _skip(self._buffer, at)
        if last and (end := end_of_element(self._buffer, at)):
            at = end
        try:
            parse(self._buffer[at : at + self._max_bytes])
        except RowProblem as problem:
            if at < len(self._buffer) and problem.reason != "DATASET_TRUNCATED":
                before = self._buffer[at:].decode("utf-8", "replace")[: max(problem.offset, 0)].encode()
                self._fail(problem.reason, problem.message, at + len(before))
        if not last:
            self._fail("DATASET_LINE_TOO_LONG", f"the row is longer than {self._max_bytes} bytes", at)
        where = (
            f"inside the row that begins with {_shown(self._buffer[at:])}" if at < len(self._buffer) else "before its closing ]"
        )
        self._fail("DATASET_ARRAY_TRUNCATED", f"the file ends {where}", at)

    def _fail(self, reason: str, message: str, at: int) -> None:
        line, column = _moved(self._buffer, 0, at, self._line, self._column)
        raise FileProblem(reason, message, line=line, column=column)


class _Columns(Sequence[int]):
    """1-based characters where elements begin, computed when the first of them is asked for: mostly none ever is."""

    def __init__(self, text: bytes, starts: Sequence[int], column: int) -> None:
        """`column` is that of the beginning of `text`."""
        self._text, self._starts, self._column = text, starts, column

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return self._columns[index]

    @cached_property
    def _columns(self) -> list[int]:
        columns, column = [], self._column
        for before, start in pairwise([0, *self._starts]):
            _, column = _moved(self._text, before, start, 1, column)
            columns.append(column)
        return columns


def _skip(text: bytes, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _moved(text: bytes, start: int, end: int, line: int, column: int) -> tuple[int, int]:
    """(line, column) of `end`, given those of `start`."""
    if ended := text.count(b"\n", start, end):
        start, line, column = text.rfind(b"\n", start, end) + 1, line + ended, 1
    moved = text[start:end]
    return line, column + len(moved if moved.isascii() else moved.translate(None, _CONTINUATION))


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace")[:30])
