"""A form passes through in constant memory: what is handed on is what has just come."""

import tracemalloc
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from services.gateway.multipart import Chunk, Field, FileStart, pieces
from services.gateway.upload_form import upload_requests

BOUNDARY = b"--------------------------boundary"
HEAD = (
    b'--%b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
) % (BOUNDARY, BOUNDARY)
TAIL = b"\r\n--%s--\r\n" % BOUNDARY


def request_of(source) -> Request:
    """A request whose body is what the iterator gives; it is asked for one piece at a time."""
    iterator = iter(source)

    async def receive() -> dict:
        try:
            return {"type": "http.request", "body": next(iterator), "more_body": True}
        except StopIteration:
            return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=" + BOUNDARY)]
    return Request({"type": "http", "headers": headers, "method": "POST"}, receive)


async def read(body: AsyncIterator) -> tuple[list, bytes]:
    found, data = [], b""
    async for piece in body:
        if isinstance(piece, Chunk):
            data += piece.data
        else:
            found.append(piece)
    return found, data


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=400))
async def test_the_file_is_the_same_however_the_connection_cuts_it(body: bytes, size: int) -> None:
    whole = HEAD + body + TAIL
    if b"\r\n--" + BOUNDARY in body:
        return
    cut = [whole[start : start + size] for start in range(0, len(whole), size)]
    found, data = await read(pieces(request_of(cut), 10_000))
    assert found == [Field("purpose", "fine-tune"), FileStart("file", "a.jsonl")]
    assert data == body


async def test_a_gigabyte_passes_piece_by_piece_and_nothing_is_kept() -> None:
    piece = b"x" * 65_536
    count = 512 * 1024 * 1024 // len(piece)
    taken = 0

    def source():
        nonlocal taken
        yield HEAD
        for _ in range(count):
            taken += 1
            yield piece
        yield TAIL

    seen = handed = 0
    tracemalloc.start()
    try:
        async for message in upload_requests(request_of(source()), 2**40, ""):
            seen += len(message.chunk)
            handed += bool(message.chunk)
            assert taken - seen // len(piece) <= 1, "more was read than was handed on"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (seen, handed >= count) == (count * len(piece), True)
    assert peak < 2 * 1024 * 1024


async def test_the_limit_ends_the_reading() -> None:
    taken = 0

    def source():
        nonlocal taken
        yield HEAD
        while True:
            taken += 1
            yield b"x" * 65_536

    with pytest.raises(Exception, match="more than 1000000 bytes"):
        await read(pieces(request_of(source()), 1_000_000))
    assert taken < 20
