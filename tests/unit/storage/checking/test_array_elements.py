"""What is found at the speed of C is what the slow way finds, and whatever is not certain is left to that."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.checking.array_elements import Objects, find_objects

texts = st.text(st.sampled_from('ab{}[]",\\ \n'), max_size=8)
without_closing = st.text(st.sampled_from('ab{[]",\\ \n'), max_size=8)
values = st.recursive(
    texts | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
objects = st.dictionaries(texts, values, max_size=3)


def found(text: bytes, at: int = 0) -> list[Any]:
    objects = find_objects(text, at)
    assert [text[start : start + len(row)] for row, start in zip(objects.rows, objects.starts, strict=True)] == objects.rows
    assert objects.starts == sorted(set(objects.starts))
    return [json.loads(row) for row in objects.rows]


@given(
    st.lists(st.dictionaries(without_closing, without_closing | st.integers()), min_size=1, max_size=6),
    st.sampled_from([None, 0, 2]),
)
def test_all_but_the_last_object_are_found(rows: list[dict[str, Any]], indent: int | None) -> None:
    content = json.dumps(rows, indent=indent).encode()
    assert found(content, at=1) == rows[:-1]


@given(st.lists(objects, min_size=1, max_size=6), st.data())
def test_wherever_the_file_is_cut_only_whole_objects_are_found(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    content = json.dumps(rows).encode()
    cut = data.draw(st.integers(1, len(content)))
    complete = found(content[:cut], at=1)
    assert complete == rows[: len(complete)]


@pytest.mark.parametrize("other", [b"7", b'"{}"', b"[{}]", b"null", b"-1.5e3"])
def test_it_ends_before_what_is_no_object(other: bytes) -> None:
    assert found(b'{"a": 1}, ' + other + b', {"b": 2}, {"c": 3}, ') == [{"a": 1}]


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def test_many_brackets_that_do_not_nest_are_no_reason_to_stop() -> None:
    row = {"a": [[]] * 50, "b": "[" * 50, "c": json.loads(nested(31))}
    assert found(json.dumps([row, row, row]).encode(), at=1) == [row, row]


@pytest.mark.parametrize("at", [0, 1, 7, 19])
@pytest.mark.parametrize("many", [0, 40])
def test_it_ends_before_an_object_that_nests_too_deep(at: int, many: int) -> None:
    rows: list[dict[str, Any]] = [{"a": [[]] * many}] * 21
    rows[at] = {"a": json.loads(nested(32))}
    assert found(json.dumps(rows).encode(), at=1) == rows[:at]


@given(
    st.lists(st.sampled_from([b"{}", b'{"a": [{}]}', b'{"a": "},{"}', b'"},"', b"[{},{}]", b"7"]), min_size=1, max_size=6),
    st.lists(st.sampled_from([b",", b", ", b",\n", b" ,", b" , "]), min_size=6, max_size=6),
    st.sampled_from([b"", b" ", b"\n  "]),
)
def test_elements_are_found_at_their_place_whatever_is_between_them(
    elements: list[bytes], spaces: list[bytes], before: bytes
) -> None:
    content = before + b"".join(element + space for element, space in zip(elements, spaces, strict=False))
    rows = [json.loads(element) for element in elements]
    objects = next((index for index, row in enumerate(rows) if not isinstance(row, dict)), len(rows))
    assert found(content) == rows[: len(found(content))]
    assert len(found(content)) <= objects


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"a": 1}',
        b'{"a": 1 "b"}, {}, ',
        b"{,}, ",
        b'{"a": NaN}, ',
        b"}, ",
        b'{"a": "}, ',
        b"{" * 100 + b"}, ",
        b"\xff}, ",
    ],
)
def test_what_is_not_certain_is_left(content: bytes) -> None:
    assert find_objects(content, 0) == Objects([], [])


def test_a_comma_inside_a_text_costs_a_try_and_no_more() -> None:
    assert found(b'{"a": 1}, {"b": "x},') == [{"a": 1}]
    assert found(b'{"a": 1}, {"b": "' + b"}," * 10) == []
