"""Rows of a JSON lines file, a chunk's worth at a time, in bounded memory; used by `checker`."""

from collections.abc import Iterator

from services.storage.checking.block import Block

MAX_ROW_BYTES = 8 * 2**20
_KEPT_OF_LONG_ROW = 4096 * 4
BLANK = b" \t\r"


class LineSource:
    """Takes chunks cut anywhere; holds at most one line of `max_bytes` and a chunk."""

    def __init__(self, max_bytes: int = MAX_ROW_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._held = 0
        self._too_long = False
        self._line = 1

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """The rows whose lines end in this chunk."""
        if self._held:
            first, end, chunk = chunk.partition(b"\n")
            self._hold(first)
            if not end:
                return
            yield from self._held_line()
        last = chunk.rfind(b"\n")
        if last >= 0:
            yield from self._block(chunk[:last], ended=True)
        self._hold(chunk[last + 1 :])

    def finish(self) -> Iterator[Block]:
        """The last row, when the file does not end with a line feed."""
        if self._held:
            yield from self._held_line(ended=False)

    def _hold(self, part: bytes) -> None:
        if self._too_long or not part:
            return
        self._parts.append(part)
        self._held += len(part)
        # Blanks around a row do not count, but a line of nothing else must end somewhere.
        if self._held > self._max_bytes and len(b"".join(self._parts).strip(BLANK)) > self._max_bytes:
            self._parts = [b"".join(self._parts).lstrip(BLANK)[:_KEPT_OF_LONG_ROW]]
            self._too_long = True

    def _held_line(self, *, ended: bool = True) -> Iterator[Block]:
        content, too_long = b"".join(self._parts), self._too_long
        self._parts, self._held, self._too_long = [], 0, False
        if too_long:
            yield Block([content], [self._line], too_long=True)
            self._line += 1
        else:
            yield from self._block(content, ended=ended)

    def _block(self, text: bytes, *, ended: bool) -> Iterator[Block]:
        first, lines = self._line, text.split(b"\n")
        self._line += len(lines)
        if _plain(lines):
            yield Block(lines, range(first, self._line), exact=ended)
            return
        found = [(line.strip(BLANK), number, line) for number, line in enumerate(lines, start=first)]
        rows = [(row, number, line) for row, number, line in found if row]
        if rows:
            columns = [1 + len(line) - len(line.lstrip(BLANK)) for _, _, line in rows]
            yield Block([row for row, _, _ in rows], [number for _, number, _ in rows], columns)


def _plain(lines: list[bytes]) -> bool:
    """Whether no line has anything around its object."""
    try:
        return not [1 for line in lines if line[0] != 123 or line[-1] != 125]  # the bytes of { and }
    except IndexError:  # an empty line
        return False
