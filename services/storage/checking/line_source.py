"""Rows of a JSON lines file, a chunk's worth at a time, in bounded memory; used by `checker`."""

from collections.abc import Iterator, Sequence

from services.storage.checking.block import Block

MAX_ROW_BYTES = 8 * 2**20
_KEPT_OF_LONG_ROW = 4096 * 4
_TRAILING_BLANKS = 4096
BLANK = b" \t\r"


class LineSource:
    """Takes chunks cut anywhere; holds at most one line of `max_bytes` and a chunk."""

    def __init__(self, max_bytes: int = MAX_ROW_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._held = self._indent = 0
        self._too_long = False
        self._line = 1

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """The rows whose lines end in this chunk."""
        if self._held or self._indent:
            first, end, chunk = chunk.partition(b"\n")
            self._hold(first)
            if not end:
                return
            yield from self._held_line(ended=True)
        last = chunk.rfind(b"\n")
        if last >= 0:
            yield from self._block(chunk[:last])
        self._hold(chunk[last + 1 :])

    def finish(self) -> Iterator[Block]:
        """The last row, when the file does not end with a line feed."""
        if self._held:
            yield from self._held_line(ended=False)

    def _hold(self, part: bytes) -> None:
        if not self._held:
            stripped = part.lstrip(BLANK)
            self._indent += len(part) - len(stripped)
            part = stripped
        if self._too_long or not part:
            return
        self._parts.append(part)
        self._held += len(part)
        if self._held > self._max_bytes + _TRAILING_BLANKS:
            self._parts = [b"".join(self._parts)[:_KEPT_OF_LONG_ROW]]
            self._too_long = True

    def _held_line(self, *, ended: bool) -> Iterator[Block]:
        content, row = (whole := b"".join(self._parts)), whole.rstrip(BLANK)
        if row:
            exact = ended and not self._indent and row == content
            yield Block([row], [self._line], [1 + self._indent], exact=exact, too_long=self._too_long)
        self._parts, self._held, self._indent, self._too_long = [], 0, 0, False
        self._line += 1

    def _block(self, text: bytes) -> Iterator[Block]:
        first, lines = self._line, text.split(b"\n")
        self._line += len(lines)
        if are_framed(lines):
            yield Block(lines, range(first, self._line), exact=True, framed=True)
            return
        stripped = [(line.strip(BLANK), number, line) for number, line in enumerate(lines, start=first)]
        rows = [found for found in stripped if found[0]]
        if rows:
            columns = [1 + len(line) - len(line.lstrip(BLANK)) for _, _, line in rows]
            exact = all(row == line for row, _, line in stripped) and len(rows) == len(lines)
            yield Block([row for row, _, _ in rows], [number for _, number, _ in rows], columns, exact=exact)


def are_framed(lines: Sequence[bytes]) -> bool:
    """Whether every line begins with { and ends with }."""
    try:
        return not [1 for line in lines if line[0] != 123 or line[-1] != 125]  # the bytes of { and }
    except IndexError:  # an empty line
        return False
