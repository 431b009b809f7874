"""Rows as they come out of a file, several at a time; made by the sources, read by `checker`."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Rows in the order of the file; all sequences have one element a row."""

    rows: Sequence[bytes]
    """Without surrounding blanks and without line ends inside."""
    lines: Sequence[int]
    """1-based line where the row begins."""
    columns: Sequence[int] = ()
    """1-based character of that line where the row begins; empty = all begin their line."""
    originals: Sequence[bytes] = ()
    """The rows as in the file, with line ends inside; empty = they are equal."""
    exact: bool = False
    """The bytes of the file are the rows with a line feed behind each."""
    framed: bool = False
    """Every row is known to begin with { and to end with }."""
    too_long: bool = False
    """There is one row, which is too long to be read; `rows` holds its beginning."""

    def place(self, index: int, offset: int) -> tuple[int, int, int]:
        """(line, column, lines further down) of the character `offset` of a row; the column is that of the line it is on."""
        before = (self.originals or self.rows)[index].decode("utf-8", "replace")[:offset]
        further = before.count("\n")
        if further:
            return self.lines[index], offset - before.rfind("\n"), further
        return self.lines[index], (self.columns[index] if self.columns else 1) + offset, 0
