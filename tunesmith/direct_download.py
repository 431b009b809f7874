"""Files read straight from the object store, in ranges and several at once; used by every download of large files.

What cannot be read that way comes through the service from where it stopped, so a store that this machine does not reach costs
one connection that comes to nothing, three seconds at most.
"""

import collections
import contextlib
import http.client
import itertools
import queue
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from tunesmith.errors import TunesmithError
from tunesmith.object_http import SOCKET_SECONDS, connect, target
from tunesmith.v1.artifact_pb2 import File
from tunesmith.v1.artifact_service_pb2 import SignedDownload

SMALLEST_BYTES = 8 * 2**20
"""Files below this are not worth a question more."""
_RANGE_BYTES = 4 * 2**20
_THREADS = 2
_AHEAD = 3
_TRIES = 3
_CONNECT_SECONDS = 3.0

Fetch = Callable[[str, int], Iterator[bytes]]
"""The bytes of a file, by path, from an offset."""
Sign = Callable[[str], SignedDownload]
"""Asks the service for a URL, by path."""


class DirectDownload:
    """Reads the large ones of `files` from the object store as long as that works, everything else by `fetch`."""

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
                for chunk in _Ranges(self._sign(path).url).read(offset, self._sizes[path]):
                    yield chunk
                    offset += len(chunk)
                return
            except (OSError, http.client.HTTPException, TunesmithError):
                self.works = False
        yield from self._fetch(path, offset)


class _Ranges:
    """One object, over connections that are used again."""

    def __init__(self, url: str) -> None:
        self._place = urllib.parse.urlsplit(url)
        self._idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        # New memory for every range would cost as much as its checksum.
        self._buffers = [bytearray() for _ in range(_AHEAD + 1)]

    def read(self, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """Ranges in their order, each good until the next is asked for. Raises OSError and HTTPException, at once when the store
        cannot be reached.
        """
        self._idle.put(self._connected())
        starts, buffers = iter(range(offset, size_bytes, _RANGE_BYTES)), itertools.cycle(self._buffers)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="download") as pool:

            def begin(start: int) -> Future[memoryview]:
                return pool.submit(self._range, start, min(start + _RANGE_BYTES, size_bytes), next(buffers))

            ahead = collections.deque(map(begin, itertools.islice(starts, _AHEAD)))
            try:
                while ahead:
                    chunk = ahead.popleft().result()
                    ahead.extend(map(begin, itertools.islice(starts, 1)))
                    yield chunk
            finally:
                pool.shutdown(cancel_futures=True)
                self._close()

    def _range(self, start: int, end: int, buffer: bytearray) -> memoryview:
        if not buffer:
            buffer.extend(bytes(_RANGE_BYTES))
        content = memoryview(buffer)[: end - start]
        for attempt in itertools.count(1):
            try:
                self._try_range(start, content)
            except (OSError, http.client.HTTPException):
                if attempt == _TRIES:
                    raise
            else:
                break
        return content

    def _try_range(self, start: int, content: memoryview) -> None:
        connection = self._connection()
        try:
            _get_range(connection, target(self._place), start, content)
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def _connection(self) -> http.client.HTTPConnection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._connected()

    def _connected(self) -> http.client.HTTPConnection:
        connection = connect(self._place)
        connection.timeout = _CONNECT_SECONDS
        connection.connect()
        connection.sock.settimeout(SOCKET_SECONDS)
        return connection

    def _close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


def _get_range(connection: http.client.HTTPConnection, path: str, start: int, content: memoryview) -> None:
    """Fills `content` with the bytes from `start` on; raises OSError and HTTPException."""
    connection.request("GET", path, headers={"Range": f"bytes={start}-{start + len(content) - 1}"})
    response = connection.getresponse()
    if response.status != http.HTTPStatus.PARTIAL_CONTENT or response.length != len(content):
        raise http.client.HTTPException(f"{response.status} {response.reason}, not the range that was asked for")
    done = 0
    while done < len(content):
        count = response.readinto(content[done:])
        if not count:
            raise http.client.IncompleteRead(bytes(content[:done]), len(content) - done)
        done += count
