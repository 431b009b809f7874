"""An element of an array ends where its brackets and quotes say so, however deep it is; what is cut off has no end."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.storage.checking.checks import ANSWER, USER, Checked, of

from services.storage.checking.element_end import end_of_element

texts = st.text(st.sampled_from('ab{}[]",\\ \n'), max_size=6)
values: st.SearchStrategy[Any] = st.recursive(
    texts | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)


def nested(levels: int, inner: str = "1") -> str:
    return "[" * levels + inner + "]" * levels


@given(values, st.sampled_from([",", "]", " ,", "\n]"]), st.sampled_from([None, 1]))
def test_an_element_ends_before_what_follows_it(value: Any, behind: str, indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    assert end_of_element(text + behind.encode(), 0) == len(text)


@given(values.filter(lambda value: isinstance(value, list | dict | str)), st.data())
def test_what_is_cut_off_has_no_end(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value).encode()
    assert end_of_element(text[: data.draw(st.integers(0, len(text) - 1))], 0) is None


@pytest.mark.parametrize("levels", [1, 31, 32, 33])
@pytest.mark.parametrize("inner", ["1", '"]]]"', '"\\"]"', "null", ""], ids=["number", "brackets", "quote", "null", "nothing"])
def test_an_element_ends_as_deep_as_a_row_may_be_and_one_level_deeper(levels: int, inner: str) -> None:
    text = nested(levels, inner).encode()
    assert end_of_element(text + b", [1]", 0) == len(text)
    assert end_of_element(text[:-1], 0) is None
    assert end_of_element(b"[0], " + text + b"]", 5) == 5 + len(text)


@pytest.mark.parametrize("levels", [34, 100, 5000])
def test_deeper_ones_have_no_end(levels: int) -> None:
    assert end_of_element(nested(levels).encode() + b",", 0) is None


@pytest.mark.parametrize(
    "text", [b"", b",", b"]", b"}", b" {}", b'"', b'"a', b"7", b"tru", b"[" * 100_000, b'{"a":' * 100_000, b'[["' * 60]
)
def test_what_is_no_whole_element_has_no_end(text: bytes) -> None:
    assert end_of_element(text, 0) is None


def test_a_number_ends_where_something_else_begins() -> None:
    assert end_of_element(b"-1.5e3]", 0) == 6
    assert end_of_element(b"null ,", 0) == 4


def deep(levels: int) -> str:
    """A row of so many levels."""
    return of(USER, ANSWER, more=f', "meta": {nested(levels - 1)}')


GOOD = of(USER, ANSWER)


@pytest.mark.parametrize("cut", [0, 1, 7, 64, 1000])
@pytest.mark.parametrize("at", [0, 1, 5, 11])
def test_a_row_that_is_a_level_too_deep_is_one_bad_row_of_an_array(cut: int, at: int) -> None:
    rows = [GOOD] * 12
    rows[at] = deep(33)
    checked = Checked(("[" + ",\n".join(rows) + "]").encode(), cut=cut)
    assert [(line, reason) for line, _, reason in checked.places] == [(at + 1, "DATASET_TOO_DEEP")]
    assert checked.statistics["example_count"] == 11


@pytest.mark.parametrize("cut", [0, 1, 64, 1000])
@pytest.mark.parametrize("at", [0, 5, 11])
def test_a_row_that_is_deeper_ends_the_check_of_an_array(cut: int, at: int) -> None:
    rows = [GOOD] * 12
    rows[at] = deep(34)
    checked = Checked(("[" + ",\n".join(rows) + "]").encode(), cut=cut)
    assert [(line, reason) for line, _, reason in checked.places] == [(at + 1, "DATASET_TOO_DEEP")]
    assert not checked.outcome["accepted"]


def test_a_row_is_too_deep_in_an_array_as_it_is_on_a_line() -> None:
    (on_line,) = Checked(deep(33).encode()).report["violations"]
    (in_array,) = Checked(f"[{deep(33)}]".encode()).report["violations"]
    assert {**in_array, "column": in_array["column"] - 1} == on_line
