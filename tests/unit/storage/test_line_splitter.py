"""Lines are those of the file, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.line_splitter import Line, LineSplitter


def split(chunks: list[bytes], max_bytes: int = 100) -> list[Line]:
    splitter = LineSplitter(max_bytes)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.finish())


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"", b" "]), max_size=30))
def test_any_cut_gives_the_lines_of_the_whole(chunks: list[bytes]) -> None:
    content = b"".join(chunks).removeprefix(b"\xef\xbb\xbf")
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    found = split(chunks)
    assert [line.content for line in found][: len(expected)] == [text.removesuffix(b"\r") for text in expected]
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    # A file that is nothing but a byte order mark has one line, which is empty.
    assert [line.content for line in found[len(expected) :]] in ([], [b""])


@pytest.mark.parametrize("length", [0, 1, 99, 100])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_lines_up_to_the_limit_are_whole(length: int, end: bytes) -> None:
    found = split([b"\n", b"x" * length + end])
    assert [line.content for line in found][1:] == ([b"x" * length] if length or end else [])
    assert not any(line.too_long for line in found)


@pytest.mark.parametrize("length", [101, 102, 105, 5000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_lines_above_the_limit_are_marked_and_the_next_is_whole(length: int, end: bytes, size: int) -> None:
    content = b"x" * length + end
    found = split([content[start : start + size] for start in range(0, len(content), size)] + [b"\nnext"])
    assert found[0].too_long
    assert found[0].content.startswith(b"x" * 100)
    assert (found[-1].content, found[-1].too_long) == (b"next", False)


def test_a_byte_order_mark_counts_only_at_the_start() -> None:
    mark = b"\xef\xbb\xbf"
    assert [line.content for line in split([mark[:1], mark[1:] + b"a\n" + mark + b"b"])] == [b"a", mark + b"b"]
