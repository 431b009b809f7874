"""The proxy does what it is told, so that what is seen through it can be believed."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.faults.proxy import Mood, Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of an echo."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1000):
                writer.write(piece)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}").serving() as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(proxy.address.rpartition(":")[2]))
    yield reader, writer
    writer.close()


async def silence(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a moment."""
    try:
        await asyncio.wait_for(reader.read(10), 0.05)
    except TimeoutError:
        return True
    return False


async def test_bytes_pass_both_ways(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.write_eof()
        assert await reader.read() == b""
    assert proxy.connections == 1


async def test_a_cut_resets_what_is_there_and_lets_new_ones_in(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
    async with connected(proxy) as (reader, writer):
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"


async def test_a_client_that_resets_is_reset_on_the_other_side_too() -> None:
    lost = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1000):
                pass
        lost.set()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    async with server, Proxy(f"127.0.0.1:{server.sockets[0].getsockname()[1]}").serving() as proxy:
        async with connected(proxy) as (_, writer):
            writer.write(b"x")
            await writer.drain()
            linger = writer.get_extra_info("socket")
            linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
        await asyncio.wait_for(lost.wait(), 10)


async def test_refused_connections_are_reset(proxy: Proxy) -> None:
    proxy.set(Mood.REFUSE)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        async with connected(proxy) as (reader, _):
            await reader.readexactly(1)


async def test_what_is_swallowed_comes_when_the_network_is_whole_again(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        proxy.set(Mood.SWALLOW)
        writer.write(b"late")
        assert await silence(reader)
        proxy.set(Mood.PASS)
        assert await reader.readexactly(4) == b"late"


async def test_half_closed_connections_end_for_the_reader_alone(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        proxy.set(Mood.HALF_CLOSE)
        assert await reader.read() == b""
        writer.write(b"still taken")
        await writer.drain()


async def test_pieces_are_delayed(proxy: Proxy) -> None:
    proxy.delay = 0.2
    async with connected(proxy) as (reader, writer):
        writer.write(b"x")
        assert await silence(reader)
        proxy.delay = 0.0
        writer.write(b"y")
        assert await reader.readexactly(2) == b"xy"
