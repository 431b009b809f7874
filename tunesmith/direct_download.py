"""Files read straight from the object store, over one connection each; used by every download of large files.

What cannot be read that way comes through the service from where it stopped, so a store that this machine does not reach costs
one connection that comes to nothing, three seconds at most.
"""

import http.client
import queue
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tunesmith.errors import TunesmithError
from tunesmith.object_http import SOCKET_SECONDS, connect, target
from tunesmith.v1.artifact_pb2 import File
from tunesmith.v1.artifact_service_pb2 import SignedDownload

SMALLEST_BYTES = 8 * 2**20
"""Files below this are not worth a question more."""
_PIECE_BYTES = 512 * 2**10
_PIECES = 4
_TRIES = 3
_CONNECT_SECONDS = 3.0

Fetch = Callable[[str, int, bool], Iterator[bytes]]
"""The bytes of a file through the service, by path, from an offset, and whether the caller verifies them."""
Sign = Callable[[str], SignedDownload]
"""Asks the service for a URL, by path."""


class DirectDownload:
    """Reads the large ones of `files` from the object store as long as that works, everything else by `fetch`.

    Whoever reads verifies.
    """

    def __init__(self, files: Iterable[File], fetch: Fetch, sign: Sign) -> None:
        self._sizes = {file.path: file.size_bytes for file in files}
        self._fetch = fetch
        self._sign = sign
        self.works = True
        """False = everything comes through the service."""

    def read(self, path: str, offset: int) -> Iterator[bytes | memoryview]:
        """The bytes of a file from an offset; a piece is good until the next is asked for. Nothing is verified here."""
        if self.works and self._sizes[path] - offset >= SMALLEST_BYTES:
            try:
                for chunk in _Stream(self._sign(path).url).read(offset, self._sizes[path]):
                    yield chunk
                    offset += len(chunk)
                return
            except (OSError, http.client.HTTPException, TunesmithError):
                self.works = False
        yield from self._fetch(path, offset, True)


class _Stream:
    """One object over one connection. A thread receives the next pieces while the caller works on what has come."""

    def __init__(self, url: str) -> None:
        self._place = urllib.parse.urlsplit(url)
        # Used again for the whole file: the first use of new memory costs more than everything else a byte goes through.
        self._free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        self._filled: queue.SimpleQueue[tuple[bytearray, int] | None] = queue.SimpleQueue()

    def read(self, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """Pieces in their order, each good until the next is asked for. Raises OSError and HTTPException, at once when the store
        cannot be reached.
        """
        connection = self._connected()
        for _ in range(_PIECES):
            self._free.put(bytearray(_PIECE_BYTES))
        with ThreadPoolExecutor(1, thread_name_prefix="download") as pool:
            received = pool.submit(self._receive, connection, offset, size_bytes)
            received.add_done_callback(lambda _: self._filled.put(None))
            try:
                while piece := self._filled.get():
                    buffer, count = piece
                    yield memoryview(buffer)[:count]
                    self._free.put(buffer)
                received.result()
            finally:
                self._free.put(None)

    def _receive(self, connection: http.client.HTTPConnection, start: int, end: int) -> None:
        """Goes on over a new connection where one breaks; three that bring nothing are enough."""
        attempt = 1
        while start < end:
            began = start
            try:
                for count in self._pieces(connection, start, end):
                    start += count
                return
            except (OSError, http.client.HTTPException):
                attempt = attempt + 1 if start == began else 1
                if attempt > _TRIES:
                    raise
            finally:
                connection.close()
            connection = self._connected()

    def _pieces(self, connection: http.client.HTTPConnection, start: int, end: int) -> Iterator[int]:
        """Sizes of the pieces that one connection brings; ends when the reader has enough."""
        connection.request("GET", target(self._place), headers={"Range": f"bytes={start}-{end - 1}"})
        response = connection.getresponse()
        if response.status != http.HTTPStatus.PARTIAL_CONTENT or response.length != end - start:
            raise http.client.HTTPException(f"{response.status} {response.reason}, not the range that was asked for")
        while start < end and (buffer := self._free.get()) is not None:
            try:
                count = _fill(memoryview(buffer)[: end - start], response)
            except BaseException:
                self._free.put(buffer)
                raise
            self._filled.put((buffer, count))
            start += count
            yield count

    def _connected(self) -> http.client.HTTPConnection:
        connection = connect(self._place)
        connection.timeout = _CONNECT_SECONDS
        connection.connect()
        connection.sock.settimeout(SOCKET_SECONDS)
        return connection


def _fill(piece: memoryview, response: http.client.HTTPResponse) -> int:
    """Bytes of a piece that is full, or less at a connection's end; raises IncompleteRead when there is nothing more."""
    done = 0
    while done < len(piece) and (count := response.readinto(piece[done:])):
        done += count
    if not done:
        raise http.client.IncompleteRead(b"", len(piece))
    return done
