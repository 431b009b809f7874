"""A TCP proxy that misbehaves as told: cuts, delays, swallows, half-closes; between the services and what they speak to."""

import asyncio
import contextlib
import enum
import socket
from collections.abc import AsyncIterator

from tests.ports import free_port

_CHUNK_BYTES = 64 * 1024


class Mood(enum.Enum):
    """What happens to connections, old and new."""

    PASS = "bytes pass"
    REFUSE = "every connection is reset, new ones too"
    SWALLOW = "connections stay open and nothing passes, as behind a broken network"
    HALF_CLOSE = "what the client sends passes, what the server answers is cut off by an end of file"


class Proxy:
    """Listens on `address`; `delay` in seconds for every piece in both directions."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.address = f"127.0.0.1:{free_port()}"
        self.delay = 0.0
        self.connections = 0
        """Made so far."""
        self._mood = Mood.PASS
        self._passes = asyncio.Event()
        self._passes.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._answering: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Proxy"]:
        """Inside, it listens."""
        port = int(self.address.rpartition(":")[2])
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        try:
            yield self
        finally:
            self._server.close()
            self._passes.set()
            self.cut()

    def set(self, mood: Mood) -> None:
        """From now on; connections that are there included."""
        self._mood = mood
        if mood is Mood.SWALLOW:
            self._passes.clear()
        else:
            self._passes.set()
        if mood is Mood.REFUSE:
            self.cut()
        if mood is Mood.HALF_CLOSE:
            for writer in [*self._answering]:
                _end(writer)

    def cut(self) -> None:
        """Resets every connection; new ones are made as the mood says."""
        for writer in [*self._writers]:
            _reset(writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._mood is Mood.REFUSE:
            _reset(writer)
            return
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, back}
        self._answering.add(writer)
        if self._mood is Mood.HALF_CLOSE:
            _end(writer)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._writers -= {writer, back}
            self._answering.discard(writer)
            for one in (writer, back):
                one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(_CHUNK_BYTES):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._passes.wait()
                if writer.transport.is_closing():
                    return
                with contextlib.suppress(RuntimeError):  # written behind the end of file
                    writer.write(piece)
                    await writer.drain()
            if not writer.transport.is_closing():
                writer.write_eof()
        except OSError:
            # A reset is passed on as one.
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering, closing sends a reset instead of an orderly end.
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


def _end(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.write_eof()
