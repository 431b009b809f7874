"""Rows and their places are those of the file, however it is cut, and memory stays bounded."""

import contextlib
import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.storage.checking.checks import GOOD, Checked

from services.storage.checking.array_source import ArraySource
from services.storage.checking.block import Block
from services.storage.checking.line_source import LineSource
from services.storage.checking.problem import FileProblem

Source = Callable[[int], LineSource | ArraySource]


def blocks(source: LineSource | ArraySource, chunks: list[bytes]) -> list[Block]:
    return [block for chunk in chunks for block in source.feed(chunk)] + list(source.finish())


def found(source: LineSource | ArraySource, chunks: list[bytes]) -> list[tuple[bytes, int, int]]:
    return [
        (row, block.lines[index], block.columns[index] if block.columns else 1)
        for block in blocks(source, chunks)
        for index, row in enumerate(block.rows)
    ]


@given(st.lists(st.sampled_from([b"a", b"{}", b"\n", b"\r", b"\r\n", b"", b" ", b"\t"]), max_size=30))
def test_any_cut_gives_the_rows_of_the_whole(chunks: list[bytes]) -> None:
    lines = b"".join(chunks).split(b"\n")
    expected = [
        (line.strip(b" \t\r"), number, 1 + len(line) - len(line.lstrip(b" \t\r")))
        for number, line in enumerate(lines, start=1)
        if line.strip(b" \t\r")
    ]
    assert found(LineSource(100), chunks) == expected


values = st.recursive(
    st.one_of(st.text(max_size=5), st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
)


@given(st.lists(values, max_size=6), st.sampled_from([None, 0, 2]), st.integers(1, 50))
def test_the_elements_of_any_array_are_found(elements: list[object], indent: int | None, cut: int) -> None:
    text = json.dumps(elements, indent=indent, ensure_ascii=False)
    content = text.encode()
    rows = found(ArraySource(), [content[start : start + cut] for start in range(0, len(content), cut)])
    assert [json.loads(row) for row, _, _ in rows] == elements
    lines = text.split("\n")
    for row, line, column in rows:
        assert b"\n" not in row
        assert lines[line - 1][column - 1 :].startswith(row.decode()[:1])


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_row_of_just_the_limit_is_taken(end: bytes, mark: bytes) -> None:
    row = GOOD.encode()
    for cut in (0, 1):
        assert Checked(mark + row + end, cut=cut, max_row_bytes=len(row)).report["valid"]
        assert Checked(mark + row + end, cut=cut, max_row_bytes=len(row) - 1).places == [(1, "", "DATASET_LINE_TOO_LONG")]


def test_a_long_row_is_one_problem_and_the_next_is_read() -> None:
    row = GOOD.encode()
    for cut in (1, 7, 10_000):
        checked = Checked(row + b"\n" + b"x" * 500 + b"\n" + row + b"\n", cut=cut, max_row_bytes=200)
        assert checked.places == [(2, "", "DATASET_LINE_TOO_LONG")]
        assert checked.statistics["example_count"] == 2


@pytest.mark.parametrize(
    ("start", "filling"), [(b"", b"x"), (b'{"messages": "', b"x"), (b"[", b"["), (b'["', b"x"), (b"[{", b" ")]
)
def test_memory_stays_bounded_whatever_the_row(start: bytes, filling: bytes) -> None:
    limit = 2**20
    chunks = [start, *[filling * 2**16] * 400]
    source = (ArraySource if start.startswith(b"[") else LineSource)(limit)
    tracemalloc.start()
    with contextlib.suppress(FileProblem):
        blocks(source, chunks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * limit


def test_blanks_without_end_take_no_memory() -> None:
    source = LineSource(2**18)
    tracemalloc.start()
    for _ in range(200):
        assert list(source.feed(b" " * 2**16)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


def test_carriage_returns_byte_order_marks_and_blank_lines_are_no_trouble() -> None:
    content = b"\xef\xbb\xbf\r\n" + GOOD.encode() + b"\r\n \t\r\n  " + GOOD.encode() + b"\r\n\r\n"
    checked = Checked(content)
    assert checked.report["valid"]
    assert checked.rows == (GOOD + "\n").encode() * 2
    assert not checked.outcome["rows_equal_file"]
    assert checked.statistics["duplicate_count"] == 1
