"""Bytes of a pipe to lines in bounded memory, whatever is printed; used by the supervisor for every stream of every rank."""

import dataclasses

LOG_LIMIT = 16 * 1024
"""Longest text of a log entry, in bytes of UTF-8."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line without its end; `truncated` when it was longer than the limit."""

    data: bytes
    truncated: bool

    def text(self, limit: int = LOG_LIMIT) -> tuple[str, bool]:
        """The line as text of at most `limit` bytes of UTF-8, and whether something is missing at its end."""
        # Postgres takes no NUL in a text, and what is not UTF-8 must not stop the line.
        text = self.data.decode(errors="replace").replace("\0", "\ufffd")
        encoded = text.encode()
        if len(encoded) <= limit:
            return text, self.truncated
        return encoded[:limit].decode(errors="ignore"), True


class LineSplitter:
    """Cuts at `\\n`, `\\r\\n` and `\\r` (progress bars); keeps at most `limit` bytes of a line and drops the rest of it."""

    def __init__(self, limit: int = LOG_LIMIT) -> None:
        # Four bytes more, so that a character on the limit's edge arrives whole and is cut as text.
        self._limit = limit + 4
        self._line = bytearray()
        self._truncated = False
        self._after_return = False

    def feed(self, data: bytes) -> list[Line]:
        """The lines that `data` completes."""
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
        self._after_return = data.endswith(b"\r") if data else self._after_return
        *complete, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        lines = []
        for part in complete:
            self._extend(part)
            lines.append(self._take())
        self._extend(rest)
        return lines

    def end(self) -> list[Line]:
        """What is left when the stream ends without a line end."""
        return [self._take()] if self._line else []

    def _extend(self, part: bytes) -> None:
        room = self._limit - len(self._line)
        self._line += part[:room]
        self._truncated = self._truncated or len(part) > room

    def _take(self) -> Line:
        line = Line(bytes(self._line), self._truncated)
        self._line.clear()
        self._truncated = False
        return line
