"""Rows of arrays and of lines are where the sources say they are: line, column, and the bytes themselves."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.checking.array_source import ArraySource
from services.storage.checking.block import Block
from services.storage.checking.line_source import LineSource, are_framed

texts = st.text(st.sampled_from('ab{}[]",\\ é日\n'), max_size=6)
objects = st.dictionaries(texts, texts | st.integers(0, 9) | st.lists(texts, max_size=2), max_size=3)
SPACES = st.sampled_from(["", " ", "\n", "\r\n", "\n\n  ", "\t"])


def blocks(source: LineSource | ArraySource, content: bytes, cut: int) -> list[Block]:
    found = [block for start in range(0, len(content), cut) for block in source.feed(content[start : start + cut])]
    return [*found, *source.finish()]


def places(found: list[Block]) -> list[tuple[bytes, int, int]]:
    return [
        (row, block.lines[index], block.columns[index] if block.columns else 1)
        for block in found
        for index, row in enumerate(block.rows)
    ]


def expected(text: str, starts: list[int]) -> list[tuple[int, int]]:
    return [(text.count("\n", 0, start) + 1, start - (text.rfind("\n", 0, start) + 1) + 1) for start in starts]


@given(st.lists(objects, min_size=1, max_size=8), st.lists(SPACES, min_size=20, max_size=20), st.booleans(), st.integers(1, 60))
def test_elements_are_at_their_line_and_column(rows: list[Any], spaces: list[str], even: bool, cut: int) -> None:
    text, starts = "[" + spaces[0], []
    for index, row in enumerate(rows):
        before, behind = (spaces[1], spaces[2]) if even else (spaces[2 * index + 1], spaces[2 * index + 2])
        starts.append(len(text))
        text += json.dumps(row, ensure_ascii=False) + (f"{before},{behind}" if index < len(rows) - 1 else "")
    text += spaces[-1] + "]"
    found = places(blocks(ArraySource(), text.encode(), cut))
    assert [json.loads(row) for row, _, _ in found] == rows
    assert [(line, column) for _, line, column in found] == expected(text, starts)


@given(st.lists(objects, min_size=1, max_size=6), st.sampled_from([1, 2, "\t"]), st.integers(1, 90))
def test_elements_over_lines_are_one_row_each(rows: list[Any], indent: Any, cut: int) -> None:
    content = json.dumps(rows, indent=indent).encode()
    found = blocks(ArraySource(), content, cut)
    assert [json.loads(row) for block in found for row in block.rows] == rows
    assert not [row for block in found for row in block.rows if b"\n" in row]
    originals = [row for block in found for row in block.originals or block.rows]
    assert all(original in content for original in originals)
    assert [original.replace(b"\n", b" ") for original in originals] == [row for block in found for row in block.rows]


@given(st.lists(st.sampled_from(["{}", '{"é": "日"}', "", "  ", "x", " {} ", "\t{}\r"]), max_size=12), st.integers(1, 20))
def test_lines_are_at_their_number(lines: list[str], cut: int) -> None:
    content = "\n".join(lines).encode()
    found = places(blocks(LineSource(), content, cut))
    full = [(number, line) for number, line in enumerate(lines, 1) if line.strip(" \t\r")]
    assert [row.decode() for row, _, _ in found] == [line.strip(" \t\r") for _, line in full]
    assert [line for _, line, _ in found] == [number for number, _ in full]
    assert [column for _, _, column in found] == [1 + len(line) - len(line.lstrip(" \t\r")) for _, line in full]


@given(st.lists(st.sampled_from([b"{}", b"{", b"}", b"", b"[]", b"{} ", b'{"a": 1}']), max_size=5))
def test_framed_rows_begin_and_end_with_braces(rows: list[bytes]) -> None:
    assert are_framed(rows) is all(row.startswith(b"{") and row.endswith(b"}") for row in rows)


@pytest.mark.parametrize("content", [b"{}\n{}\n", b'{"a": 1}\n'])
def test_rows_that_are_the_file_are_told(content: bytes) -> None:
    assert all(block.exact for block in LineSource().feed(content))


@pytest.mark.parametrize("content", [b" {}\n{}\n", b"{}\r\n", b"\n{}\n", b"{} \n"])
def test_rows_that_are_not_the_file_are_told(content: bytes) -> None:
    assert not all(block.exact for block in LineSource().feed(content))


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_a_row_beyond_the_limit_is_told_by_its_beginning(size: int) -> None:
    content = b"{}\n" + b"x" * 100_000 + b"\n{}\n"
    found = blocks(LineSource(max_bytes=50), content, size)
    assert [block.too_long for block in found if len(block.rows[0]) > 10] == [True]
    assert [line for _, line, _ in places(found)] == [1, 2, 3]
    assert max(len(row) for row, _, _ in places(found)) <= 4096 * 4
