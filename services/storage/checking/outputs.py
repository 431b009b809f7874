"""Where usable and left-out rows go, and what is known of them; used by `checker`."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any, BinaryIO

MAX_OFFSETS = 4096
_SHOWN_OF_ROW = 4096


class RowsOutput:
    """Usable rows, one a line: written, hashed, and indexed by their offset."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._every, self._offsets = 1, list[int]()
        self.row_count = self.size_bytes = 0

    def add(self, rows: Sequence[bytes]) -> None:
        """Appends rows."""
        content = b"\n".join(rows) + b"\n"
        self._digest.update(content)
        self._index(rows)
        self.row_count += len(rows)
        self.size_bytes += len(content)
        if self._file:
            self._file.write(content)

    def stop(self) -> None:
        """Writes nothing any more; what was written is of no use."""
        self._file = None

    @property
    def sha256(self) -> str:
        """Of everything added, lower-case hexadecimal."""
        return self._digest.hexdigest()

    @property
    def index(self) -> dict[str, Any]:
        """The offset of row 1 and of every `every`th row behind it; at most 4,096 offsets."""
        return {"every": self._every, "offsets": self._offsets}

    def _index(self, rows: Sequence[bytes]) -> None:
        first = -self.row_count % self._every
        if first >= len(rows):
            return
        before = list(itertools.accumulate(map(len, rows), initial=self.size_bytes))
        # Each row before ends with a line feed.
        self._offsets += [before[index] + index for index in range(first, len(rows), self._every)]
        while len(self._offsets) > MAX_OFFSETS:
            self._offsets, self._every = self._offsets[::2], self._every * 2


class DroppedOutput:
    """Left-out rows, one JSON object a line."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file

    def add(self, violation: dict[str, Any], row: bytes) -> None:
        """Appends a row with what is wrong with it."""
        if self._file:
            # A character has at most 4 bytes.
            text = row[: 4 * _SHOWN_OF_ROW].decode("utf-8", "replace")[:_SHOWN_OF_ROW]
            said = {key: violation[key] for key in ("line", "path", "reason", "message")}
            self._file.write(json.dumps({**said, "row": text}).encode() + b"\n")

    def stop(self) -> None:
        """Writes nothing any more; what was written is of no use."""
        self._file = None
