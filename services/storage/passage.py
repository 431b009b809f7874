"""A file on its way through memory: its checksums, and the bytes no part has taken yet; used by uploads nobody looks into."""

import collections
import io
from typing import BinaryIO, Self

from services.storage.digests import Digests
from services.storage.spool import Spool


class Passage:
    """As a Spool, but bytes are taken once, in their order, and nothing touches the disk.

    What is written and not taken is in memory, so whoever writes lets parts be taken as soon as there is one.
    """

    def __init__(self) -> None:
        self.digests = Digests()
        self._chunks: collections.deque[memoryview] = collections.deque()
        self.size_bytes = 0
        self._taken_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.clear()

    def write(self, chunk: bytes) -> None:
        """Appends bytes, which are not copied."""
        self.digests.update(chunk)
        self._chunks.append(memoryview(chunk))
        self.size_bytes += len(chunk)

    def content(self) -> BinaryIO:
        """All bytes of a file of which no part was taken."""
        assert not self._taken_bytes, "what was taken is gone"
        return io.BytesIO(b"".join(self._chunks))

    def read_into(self, part: memoryview, offset: int) -> None:
        """Fills `part` with the bytes that follow those taken before."""
        assert offset == self._taken_bytes, "parts are taken in their order"
        assert offset + len(part) <= self.size_bytes, "more was asked for than was written"
        done = 0
        while done < len(part):
            chunk = self._chunks.popleft()
            count = min(len(chunk), len(part) - done)
            part[done : done + count] = chunk[:count]
            done += count
            if count < len(chunk):
                self._chunks.appendleft(chunk[count:])
        self._taken_bytes += done


Arrival = Spool | Passage
"""What has come of a file."""
