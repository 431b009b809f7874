"""What is decoded many at once is what each row's own reading gives; what decoders forgive is not trusted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.checking.json_text import MAX_DEPTH, parse
from services.storage.checking.trusted_json import fits, quotes, trusted

words = st.text(st.sampled_from('ab"\\{}[]é \n'), max_size=5)
scalars = words | st.integers(-(10**18), 10**18) | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
objects = st.dictionaries(words, values, max_size=3)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(st.lists(objects, min_size=1, max_size=4), st.booleans())
def test_what_is_trusted_is_what_each_row_says(rows: list[Any], ascii_only: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows]
    found = trusted(lines, b"\n".join(lines), framed=False)
    assert found is None or found == [parse(line) for line in lines] == rows


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9) | st.sampled_from("xyz")), min_size=1, max_size=4))
def test_ordinary_rows_are_trusted(rows: list[Any]) -> None:
    lines = [json.dumps(row).encode() for row in rows]
    assert trusted(lines, b"\n".join(lines), framed=True) == rows


@given(st.lists(words, max_size=5), st.booleans())
def test_quotes_are_counted_however_they_are_spelled(texts: list[str], escaped: bool) -> None:
    text = json.dumps(texts, ensure_ascii=False)
    if escaped:
        text = text.replace('\\"', "\\u0022")
    expected = 2 * len(texts) + "".join(texts).count('"')
    assert quotes(text.encode()) in (expected, -1)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"", 0),
        (b'"a"', 2),
        (b'"\\""', 3),
        (b'"\\u0022"', 3),
        (b'"\\u0022\\u0022\\""', 5),
        (b'"\\\\u0022"', -1),
        (b'"\\u0022\\\\u0022"', -1),
        (b'"\\u0023"', 2),
    ],
)
def test_quotes(text: bytes, count: int) -> None:
    assert quotes(text) == count


@pytest.mark.parametrize(
    ("value", "levels"), [(1, 0), ("x", 0), ([], 1), ({}, 1), ([1], 1), ([[]], 2), ({"a": [{}]}, 3), ([[], [[]]], 3)]
)
def test_levels_are_counted(value: Any, levels: int) -> None:
    assert fits(value, levels)
    assert levels == 0 or not fits(value, levels - 1)


@pytest.mark.parametrize("levels", [1, 5, MAX_DEPTH])
def test_values_nest_so_deep_and_no_deeper(levels: int) -> None:
    for depth, taken in ((levels, True), (levels + 1, False)):
        line = json.dumps(nested(depth)).encode()
        assert (trusted([line], line, framed=True, levels=levels) is not None) is taken


def test_rows_that_are_not_framed_are_not_trusted() -> None:
    assert trusted([b"[1]"], b"[1]", framed=False) is None
    assert trusted([b"[1]"], b"[1]", framed=True) == [[1]]


@pytest.mark.parametrize(
    "rows", [[b"{}", b"{}{}"], [b"{} {}"], [b'{"a": 1}', b'{"a": 1, "a": 1}'], [b'{"a": 99999999999999999999}']]
)
def test_one_doubtful_row_makes_all_doubtful(rows: list[bytes]) -> None:
    assert trusted(rows, b"\n".join(rows), framed=True) is None
