"""Any bytes in any pieces become bounded lines of valid text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.line_splitter import LOG_LIMIT, Line, LineSplitter


def split(data: bytes, *, piece: int, limit: int = 64) -> list[Line]:
    splitter = LineSplitter(limit)
    lines = [line for start in range(0, len(data), piece) for line in splitter.feed(data[start : start + piece])]
    return lines + splitter.end()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"10%\r20%\r30%\n", [b"10%", b"20%", b"30%"]),
        (b"no end", [b"no end"]),
        (b"a\n\nb", [b"a", b"", b"b"]),
        (b"a\r\r\nb", [b"a", b"", b"b"]),
        (b"\n", [b""]),
        (b"\xff\x00\xc3\n", [b"\xff\x00\xc3"]),
    ],
)
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, expected: list[bytes], piece: int) -> None:
    assert [line.data for line in split(data, piece=piece)] == expected


@given(st.binary(max_size=400), st.integers(1, 50))
def test_pieces_of_any_size_give_the_same_lines(data: bytes, piece: int) -> None:
    assert split(data, piece=piece) == split(data, piece=1000)


@given(st.binary(max_size=400))
def test_every_line_is_bounded_and_valid_utf_8_without_nul(data: bytes) -> None:
    for line in split(data, piece=11, limit=16):
        text, truncated = line.text(16)
        assert len(text.encode()) <= 16
        assert "\0" not in text
        assert truncated or not line.truncated


def test_a_line_without_end_takes_no_more_memory_than_the_limit() -> None:
    splitter = LineSplitter(1000)
    for _ in range(1000):
        assert splitter.feed(b"x" * 10_000) == []
    [line] = splitter.feed(b"\n")
    assert len(line.data) <= 1004
    assert line.truncated
    assert splitter.feed(b"next\n") == [Line(b"next", truncated=False)]


@pytest.mark.parametrize(("length", "truncated"), [(LOG_LIMIT - 1, False), (LOG_LIMIT, False), (LOG_LIMIT + 1, True)])
def test_a_line_is_truncated_only_beyond_the_limit(length: int, truncated: bool) -> None:
    [line] = split(b"x" * length + b"\n", piece=4096, limit=LOG_LIMIT)
    text, was_truncated = line.text()
    assert (len(text), was_truncated) == (min(length, LOG_LIMIT), truncated)


def test_a_character_on_the_edge_is_left_out_whole() -> None:
    [line] = split("xé".encode() * 30 + b"\n", piece=5, limit=16)
    assert line.text(16) == ("xé" * 5 + "x", True)


def test_bytes_that_grow_when_replaced_stay_within_the_limit() -> None:
    [line] = split(b"\xff" * 16 + b"\n", piece=5, limit=16)
    assert line.text(16) == ("\ufffd" * 5, True)
