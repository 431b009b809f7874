"""Lines out of chunks in bounded memory; used by the dataset validator."""

import dataclasses
from collections.abc import Iterator

MAX_LINE_BYTES = 8 * 2**20
_KEPT_OF_LONG_LINE = 4096
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line without its end (LF or CR LF)."""

    number: int
    """1-based."""
    content: bytes
    """The bytes; of a line that is too long, its beginning."""
    too_long: bool = False


class LineSplitter:
    """Takes chunks cut anywhere; holds at most one line of `max_bytes`. A byte order mark at the start is dropped."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._held = 0
        self._too_long = False
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that end in this chunk."""
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            self._hold(part)
            yield self._end()
        self._hold(rest)

    def finish(self) -> Iterator[Line]:
        """The last line, when the file does not end with a line end."""
        if self._held:
            yield self._end()

    def _hold(self, part: bytes) -> None:
        if self._too_long or not part:
            return
        self._parts.append(part)
        self._held += len(part)
        # The CR of a line end and the byte order mark do not count.
        if self._held > self._max_bytes + 1 + len(_BYTE_ORDER_MARK):
            self._parts = [b"".join(self._parts)[:_KEPT_OF_LONG_LINE]]
            self._too_long = True

    def _end(self) -> Line:
        self._number += 1
        content = b"".join(self._parts).removesuffix(b"\r")
        if self._number == 1:
            content = content.removeprefix(_BYTE_ORDER_MARK)
        line = Line(self._number, content, self._too_long or len(content) > self._max_bytes)
        self._parts, self._held, self._too_long = [], 0, False
        return line
