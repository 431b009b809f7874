"""A file whose lines are no rows of a dataset yet, as rows, line by line while it arrives; used by upload_file."""

import abc
from typing import Any

from services.gateway.failures import placed, refused
from services.gateway.lines import decoded, line_of

_LONGEST_LINE = 8 * 1024 * 1024


class RowLines(abc.ABC):
    """Lines go in, as many rows come out: the number of a line is the number of its row, of which storage may have to say more.

    Raises InvalidArgument (DATASET_INVALID) naming the first bad line and the place in it.
    """

    noun: str
    """What a line is."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._count = 0

    def take(self, data: bytes) -> bytes:
        """The rows of the lines that have come to their end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise refused(f"line {self._number + len(lines) + 1}", f"has more than {_LONGEST_LINE} bytes")
        return b"".join(self._line(line) for line in lines)

    def end(self) -> bytes:
        """The row of the last line; a file without a line that says something is refused."""
        row = self._line(self._rest) if self._rest.strip() else b""
        if not self._count:
            raise refused("file", f"holds no {self.noun}")
        return row

    def _line(self, line: bytes) -> bytes:
        self._number += 1
        if not line.strip():
            return b"\n"
        with placed(f"line {self._number}: ", reason="DATASET_INVALID"):
            row = self._row(decoded(line, self.noun), self._number)
        self._count += 1
        return line_of(row)

    @abc.abstractmethod
    def _row(self, given: Any, number: int) -> dict[str, Any]:
        """The row of a line; raises InvalidArgument naming the place in the line."""
