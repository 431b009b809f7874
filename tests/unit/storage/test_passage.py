"""Bytes that pass through memory: taken once, in their order, and measured like those of a file."""

import random

import pytest
from unit.storage.service import checksums, cut, sha256

from services.storage.passage import Passage

DATA = random.Random(5).randbytes(1000)


def part_of(passage: Passage, offset: int, size_bytes: int) -> bytes:
    part = bytearray(size_bytes)
    passage.read_into(memoryview(part), offset)
    return bytes(part)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
@pytest.mark.parametrize("size", [1, 3, 99, 100, 640, 1000])
def test_parts_of_any_size_are_the_bytes_however_they_came(chunk: int, size: int) -> None:
    taken = b""
    with Passage() as passage:
        for piece in cut(DATA, chunk):
            passage.write(piece)
            while passage.size_bytes - len(taken) >= size:
                taken += part_of(passage, len(taken), size)
        taken += part_of(passage, len(taken), len(DATA) - len(taken))
        assert (taken, passage.size_bytes) == (DATA, len(DATA))
        assert {"sha256": passage.digests.sha256, "blake3": passage.digests.blake3} == checksums(DATA)


def test_a_small_file_is_read_as_one() -> None:
    with Passage() as passage:
        assert passage.content().read() == b""
        for piece in (b"one ", b"", b"two"):
            passage.write(piece)
        assert passage.content().read() == b"one two"
        assert passage.content().read(3) == b"one"


def test_what_is_taken_is_let_go() -> None:
    with Passage() as passage:
        for piece in cut(DATA, 100):
            passage.write(piece)
        part_of(passage, 0, 950)
        assert sum(len(chunk) for chunk in passage._chunks) == 50
        assert (passage.size_bytes, passage.digests.sha256) == (1000, sha256(DATA))


@pytest.mark.parametrize(
    ("offset", "size", "says"),
    [(0, 10, "in their order"), (20, 10, "in their order"), (10, 991, "more was asked for")],
    ids=["taken before", "too early", "too much"],
)
def test_a_part_that_is_not_there_is_a_mistake_of_the_caller(offset: int, size: int, says: str) -> None:
    with Passage() as passage:
        passage.write(DATA)
        part_of(passage, 0, 10)
        with pytest.raises(AssertionError, match=says):
            part_of(passage, offset, size)
        with pytest.raises(AssertionError, match="is gone"):
            passage.content()
