"""A few rows are read out of the middle of a file, however its bytes arrive."""

from collections.abc import AsyncIterator

import pytest
from unit.storage.fakes import MemoryObjectStore

from services.storage.file import StoredFile
from services.storage.row_reader import read_rows


class Slicing(MemoryObjectStore):
    """Hands out pieces of `size` bytes and counts them."""

    def __init__(self, content: bytes, size: int) -> None:
        super().__init__()
        self.content, self.piece, self.pieces, self.closed = content, size, 0, False

    async def read(self, key: str, offset: int, size_bytes: int) -> AsyncIterator[bytes]:
        try:
            for start in range(offset, size_bytes, self.piece):
                self.pieces += 1
                yield self.content[start : start + self.piece]
        finally:
            self.closed = True


def file(content: bytes) -> StoredFile:
    return StoredFile("ROWS", len(content), "0" * 64, "key")


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("offset", "skip", "count", "rows"),
    [
        (0, 0, 1, [b"one"]),
        (0, 1, 2, [b"two", b"three"]),
        (4, 0, 1, [b"two"]),
        (4, 1, 5, [b"three", b"four"]),
        (0, 9, 1, []),
    ],
)
async def test_rows_are_the_same_whatever_the_pieces(piece: int, offset: int, skip: int, count: int, rows: list[bytes]) -> None:
    content = b"one\ntwo\nthree\nfour\n"
    assert await read_rows(Slicing(content, piece), file(content), offset, skip, count) == rows


async def test_files_of_before_may_have_marks_blank_lines_and_no_last_line_end() -> None:
    content = b"\xef\xbb\xbfone\r\n\n  \r\ntwo"
    assert await read_rows(Slicing(content, 4), file(content), 0, 0, 5) == [b"one", b"two"]


async def test_no_more_is_read_than_must_be() -> None:
    content = b"x\n" * 1000
    store = Slicing(content, 10)
    assert await read_rows(store, file(content), 0, 0, 3) == [b"x"] * 3
    assert store.pieces == 1
    assert store.closed
