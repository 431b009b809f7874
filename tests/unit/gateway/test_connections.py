"""A gateway that listens: who goes away ends the work, who is slow is not waited for."""

import asyncio
import contextlib
import dataclasses
import datetime
import json
import socket
import threading

import pytest

from services.gateway.__main__ import listening
from tests.unit.gateway.conftest import KEY, serving
from tunesmith.v1.inference_service_pb2 import StreamChatResponse

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "x"}]}
ASKED = {"/v1/chat/completions": CHAT, "/v1/responses": {"model": "tiny", "input": "x"}}
"""What answers with a stream, and what it is asked."""


@pytest.fixture
def begun() -> threading.Event:
    """Set once inference is asked."""
    return threading.Event()


@pytest.fixture
def endless(platform, begun) -> threading.Event:
    """Inference writes until its caller goes away; the event is set then."""
    cancelled = threading.Event()

    def forever(request, context):
        context.add_callback(cancelled.set)
        begun.set()
        while context.is_active():
            yield StreamChatResponse(delta="x")
            cancelled.wait(0.01)

    platform.inference.script = forever
    return cancelled


@pytest.fixture
def silent(platform, begun) -> threading.Event:
    """Inference loads a model and has not written anything yet; the event is set when its caller goes away."""
    cancelled = threading.Event()

    def loading(request, context):
        context.add_callback(cancelled.set)
        begun.set()
        cancelled.wait(30)
        yield StreamChatResponse()

    platform.inference.script = loading
    return cancelled


class Patience:
    """The time that the head of a request may take, which is over when a test says so."""

    limit = datetime.timedelta(seconds=1234)

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self._timers: list[asyncio.TimerHandle] = []
        really = loop.call_later

        def call_later(delay: float, callback, *arguments, **options) -> asyncio.TimerHandle:
            timer = really(delay, callback, *arguments, **options)
            if delay == self.limit.total_seconds():
                self._timers.append(timer)
            return timer

        monkeypatch.setattr(loop, "call_later", call_later)

    def waiting(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self._timers if not timer.cancelled()]

    def ends(self) -> None:
        for timer in self.waiting():
            timer._run()
            timer.cancel()


@pytest.fixture
async def patience(monkeypatch) -> Patience:
    return Patience(asyncio.get_running_loop(), monkeypatch)


async def happens(event: threading.Event) -> bool:
    return await asyncio.to_thread(event.wait, 30)


@pytest.mark.parametrize("path", ASKED)
async def test_a_reader_that_leaves_a_stream_ends_the_generation(served, endless, path: str) -> None:
    async with served.stream("POST", path, json={**ASKED[path], "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if '"x"' in line:
                break
        assert not endless.is_set()
    assert await happens(endless)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("source", ["endless", "silent"])
@pytest.mark.parametrize("path", ASKED)
async def test_a_caller_that_hangs_up_ends_the_generation_even_before_its_first_word(
    settings, request, begun, path: str, source: str, stream: bool
) -> None:
    cancelled = request.getfixturevalue(source)
    async with serving(settings):
        _, writer = await asyncio.open_connection(*_place(settings))
        body = json.dumps({**ASKED[path], "stream": stream}).encode()
        writer.write(_head("POST", path, len(body)) + body)
        await writer.drain()
        assert await happens(begun)
        assert not await asyncio.to_thread(cancelled.wait, 0.3)
        writer.close()
        assert await happens(cancelled)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n"], ids=["nothing", "a line", "a head"])
async def test_a_head_that_does_not_come_closes_the_connection(settings, sent: bytes) -> None:
    short = dataclasses.replace(settings, header_timeout=datetime.timedelta(milliseconds=200))
    async with serving(short):
        reader, writer = await asyncio.open_connection(*_place(short))
        # To who is late with what it sends, an end is a reset.
        with contextlib.suppress(ConnectionError):
            writer.write(sent)
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


async def test_a_second_head_on_the_same_connection_is_not_waited_for_either(settings, patience) -> None:
    limited = dataclasses.replace(settings, header_timeout=patience.limit)
    async with serving(limited):
        reader, writer = await asyncio.open_connection(*_place(limited))
        writer.write(_head("GET", "/healthz", 0))
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b'{"status":"ok"}'))
        assert not patience.waiting()
        writer.write(b"GET /healthz")
        async with asyncio.timeout(30):
            while not patience.waiting():  # noqa: ASYNC110 - the gateway begins to wait
                await asyncio.sleep(0.001)
        patience.ends()
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()


async def test_an_answer_may_take_longer_than_a_head(settings, endless, patience) -> None:
    limited = dataclasses.replace(settings, header_timeout=patience.limit)
    async with serving(limited) as http, http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        patience.ends()
        count = 0
        async for _ in answer.aiter_lines():
            count += 1
            if count > 10:
                break
        assert not endless.is_set()


async def test_a_body_that_pauses_is_refused(settings, platform) -> None:
    short = dataclasses.replace(settings, body_timeout=datetime.timedelta(milliseconds=200))
    async with serving(short):
        reader, writer = await asyncio.open_connection(*_place(short))
        writer.write(_head("POST", "/v1/fine_tuning/jobs", 100) + b"{")
        answer = await asyncio.wait_for(reader.readuntil(b"}}"), 10)
        assert b"408 Request Timeout" in answer
        assert b'"code":"request_timed_out"' in answer
        writer.close()
    assert platform.tasks.created == []


async def test_more_requests_than_it_may_answer_are_refused(settings, endless) -> None:
    small = dataclasses.replace(settings, max_requests=1)
    async with serving(small) as http, http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}):
        answer = await http.get("/v1/models")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (await http.get("/healthz")).status_code == 200


async def test_more_connections_than_it_may_hold_are_closed_at_once_and_the_others_stay(settings) -> None:
    small = dataclasses.replace(settings, max_connections=2)
    async with serving(small):
        held = [await asyncio.open_connection(*_place(small)) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*_place(small))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        reader, writer = held[0]
        writer.write(_head("GET", "/healthz", 0))
        assert b"200 OK" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        for _, writer in held:
            writer.close()


def test_no_piece_of_an_answer_waits_until_the_client_has_told_of_the_one_before(settings) -> None:
    with listening(settings.listen) as listener, socket.create_connection(_place(settings)):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_body_that_drips_is_refused_without_a_word_to_the_services(settings, platform) -> None:
    """A slow-loris of the body: it never pauses long enough, and never has more than the head has promised."""
    small = dataclasses.replace(settings, max_body_bytes=100)
    async with serving(small):
        reader, writer = await asyncio.open_connection(*_place(small))
        writer.write(_head("POST", "/v1/fine_tuning/jobs", 10**9))
        answer = asyncio.create_task(reader.readuntil(b"}}"))
        while not answer.done():
            writer.write(b" ")
            await asyncio.wait((answer,), timeout=0.001)
        assert b"413 " in answer.result()
        writer.close()
    assert platform.tasks.created == []


def _place(settings) -> tuple[str, int]:
    host, _, port = settings.listen.partition(":")
    return host, int(port)


def _head(method: str, path: str, length: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", f"authorization: Bearer {KEY}", "content-type: application/json"]
    return "\r\n".join([*lines, f"content-length: {length}", "", ""]).encode()
