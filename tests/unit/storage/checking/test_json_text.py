"""Strict JSON: what is read is what a library reads, and what is not has a reason and the character where it goes wrong."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.storage.checking.json_diagnosis import explain
from services.storage.checking.json_text import MAX_DEPTH, parse
from services.storage.checking.problem import RowProblem

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.one_of(
    words, st.integers(-(10**18), 10**18), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=12
)


def problem(row: str | bytes) -> RowProblem:
    with pytest.raises(RowProblem) as caught:
        parse(row.encode("utf-8", "surrogatepass") if isinstance(row, str) else row)
    return caught.value


def outcome(text: str) -> Any:
    try:
        return parse(text.encode())
    except RowProblem as refused:
        return refused


@given(values, st.booleans(), st.sampled_from([None, 0, 1, "\t"]), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
def test_what_json_says_is_read(value: Any, ascii_only: bool, indent: Any, separators: tuple[str, str]) -> None:
    written = json.dumps(value, ensure_ascii=ascii_only, indent=indent, separators=separators)
    assert parse(written.encode()) == value


@settings(max_examples=300)
@given(st.dictionaries(words, values, min_size=1, max_size=3), st.data())
def test_a_text_without_one_character_is_read_as_json_does_or_has_a_place(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=False)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + text[at + 1 :]
    found = outcome(damaged)
    if isinstance(found, RowProblem):
        assert found.reason.startswith("DATASET_")
        assert 0 <= found.offset <= len(damaged)
        assert 0 < len(found.message) < 300
    else:
        assert found == json.loads(damaged)


@given(st.dictionaries(words, values, min_size=1, max_size=3), st.data())
def test_a_text_that_is_cut_off_says_so_or_names_what_is_cut(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=False)
    refused = problem(text[: data.draw(st.integers(1, len(text) - 1))])
    # A word, a number or an escape that is cut is one that nobody knows.
    assert refused.reason in ("DATASET_TRUNCATED", "DATASET_NOT_JSON", "DATASET_ESCAPE")


PLACES = [
    ("", 0, "DATASET_TRUNCATED", "a value"),
    ("{", 1, "DATASET_TRUNCATED", "a key"),
    ("[", 1, "DATASET_TRUNCATED", "a value"),
    ("[1", 2, "DATASET_TRUNCATED", '"," or "]"'),
    ('{"a"', 4, "DATASET_TRUNCATED", '":"'),
    ('{"a":', 5, "DATASET_TRUNCATED", "a value"),
    ('{"a": 1', 7, "DATASET_TRUNCATED", '"," or "}"'),
    ('{"a": "x', 6, "DATASET_TRUNCATED", "'\"x'"),
    ('{"a": "x\\', 6, "DATASET_TRUNCATED", "the text"),
    ("[1,]", 2, "DATASET_COMMA", "']'"),
    ('{"a": 1,}', 7, "DATASET_COMMA", "'}'"),
    ("[,1]", 1, "DATASET_COMMA", "a value"),
    ('{"a": ,}', 6, "DATASET_COMMA", "a value"),
    ("{,}", 1, "DATASET_COMMA", "a key"),
    ("{},", 2, "DATASET_COMMA", "after the row"),
    ("[1 2]", 3, "DATASET_NOT_JSON", '"," or "]"'),
    ('{"a": 1 "b": 2}', 8, "DATASET_NOT_JSON", '"," or "}"'),
    ('{"a" 1}', 5, "DATASET_NOT_JSON", '":"'),
    ("{1: 2}", 1, "DATASET_NOT_JSON", "double quotes"),
    ("{a: 2}", 1, "DATASET_NOT_JSON", "double quotes"),
    ("{'a': 2}", 1, "DATASET_QUOTES", "single"),
    ("['a']", 1, "DATASET_QUOTES", "single"),
    ("[“a”]", 1, "DATASET_QUOTES", "typographic"),
    ("[«a»]", 1, "DATASET_QUOTES", "typographic"),
    ("[True]", 1, "DATASET_PYTHON", "true"),
    ("[False]", 1, "DATASET_PYTHON", "false"),
    ("[None]", 1, "DATASET_PYTHON", "null"),
    ("[nan]", 1, "DATASET_NUMBER", "nan"),
    ("[NaN]", 1, "DATASET_NUMBER", "NaN"),
    ("[Infinity]", 1, "DATASET_NUMBER", "Infinity"),
    ("[-Infinity]", 1, "DATASET_NUMBER", "-Infinity"),
    ("[-inf]", 1, "DATASET_NUMBER", "-inf"),
    ("[1e999]", 1, "DATASET_NUMBER", "too large"),
    ("[-1e999]", 1, "DATASET_NUMBER", "too large"),
    ("[12345678901234567890]", 1, "DATASET_NUMBER", "20 digits"),
    ("[-12345678901234567890]", 1, "DATASET_NUMBER", "20 digits"),
    ("[+1]", 1, "DATASET_NOT_JSON", "'+1"),
    ("[.5]", 1, "DATASET_NOT_JSON", "'.5"),
    ("[5.]", 2, "DATASET_NOT_JSON", '"," or "]"'),
    ("[01]", 1, "DATASET_NOT_JSON", "'01"),
    ("[0x10]", 1, "DATASET_NOT_JSON", "'0x10"),
    ("[1_000]", 2, "DATASET_NOT_JSON", "'_000"),
    ("[tru]", 1, "DATASET_NOT_JSON", "'tru"),
    ("[truex]", 1, "DATASET_NOT_JSON", "'truex"),
    ("[undefined]", 1, "DATASET_NOT_JSON", "'undefined"),
    ("[1] // x", 4, "DATASET_COMMENT", "// x"),
    ("[1 /* x */]", 3, "DATASET_COMMENT", "/* x"),
    ("# x", 0, "DATASET_COMMENT", "# x"),
    ("[1]#", 3, "DATASET_COMMENT", "'#'"),
    ("{}{}", 2, "DATASET_SEVERAL_VALUES", "second value"),
    ("[] []", 3, "DATASET_SEVERAL_VALUES", "second value"),
    ("{}\r{}", 3, "DATASET_SEVERAL_VALUES", "carriage return"),
    ("{} x", 3, "DATASET_NOT_JSON", "after the end"),
    ('["\\x"]', 2, "DATASET_ESCAPE", "\\\\x"),
    ('["\\u12"]', 2, "DATASET_ESCAPE", "\\\\u12"),
    ('["a\tb"]', 3, "DATASET_CONTROL_CHARACTER", "a tab"),
    ('["a\rb"]', 3, "DATASET_CONTROL_CHARACTER", "a carriage return"),
    ('["a\nb"]', 3, "DATASET_CONTROL_CHARACTER", "a line end"),
    ('["a\x1fb"]', 3, "DATASET_CONTROL_CHARACTER", "0x1f"),
    ('["a\0b"]', 3, "DATASET_NUL", "in a text"),
    ("[\0]", 1, "DATASET_NUL", "NUL byte"),
    ("\ufeff{}", 0, "DATASET_INVISIBLE_CHARACTER", "byte order mark"),
    ("{}\u200b", 2, "DATASET_NOT_JSON", "after the end"),
    ("[\u200b1]", 1, "DATASET_INVISIBLE_CHARACTER", "U+200B"),
    ("[\u00a01]", 1, "DATASET_INVISIBLE_CHARACTER", "U+00A0"),
    ('{"a": 1, "a": 2}', 9, "DATASET_DUPLICATE_KEY", "'a'"),
    ('{"a": 1, "\\u0061": 2}', 9, "DATASET_DUPLICATE_KEY", "'a'"),
    ('{"b": {"a": 1, "a": 2}}', 15, "DATASET_DUPLICATE_KEY", "'a'"),
]


@pytest.mark.parametrize(("text", "offset", "reason", "says"), PLACES, ids=[repr(case[0]) for case in PLACES])
def test_a_mistake_is_named_where_it_is(text: str, offset: int, reason: str, says: str) -> None:
    found = problem(text)
    assert (found.reason, found.offset) == (reason, offset)
    assert says in found.message


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a": [1, {"b": x}]}', "a[1].b"),
        ('{"a": {"b": {"c": nan}}}', "a.b.c"),
        ("[[0, x]]", "[0][1]"),
        ('{"a b": x}', "a b"),
        ('{"é": [x]}', "é[0]"),
        ('{"a": 1 1}', ""),
        ('{"a": {"b": 1, "b": 2}}', "a"),
    ],
)
def test_a_mistake_has_the_path_of_its_value(text: str, path: str) -> None:
    assert problem(text).path == path


def test_a_path_of_endless_keys_is_cut() -> None:
    found = problem('{"' + "k" * 5000 + '": x}')
    assert len(found.path) == 200
    assert found.path.endswith("...")


@pytest.mark.parametrize(
    ("row", "offset", "says"),
    [
        (b"\xff", 0, "byte 1 of the row, 0xff,"),
        (b'{"a": "\xe9"}', 7, "byte 8 of the row, 0xe9"),
        (b'{"\xc3\xa4": "\xe9"}', 7, "byte 9 of the row, 0xe9"),
        (b'"\xed\xa0\x80"', 1, "0xed"),
        (b'"\xf4\x90\x80\x80"', 1, "0xf4"),
        (b'"\xe2\x82"', 1, "0xe2"),
        (b'"\xc0\x80"', 1, "0xc0"),
    ],
)
def test_bytes_that_are_no_utf_8_are_named_by_character_and_byte(row: bytes, offset: int, says: str) -> None:
    found = problem(row)
    assert (found.reason, found.offset) == ("DATASET_NOT_UTF8", offset)
    assert says in found.message


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('"\\ud800"', ""),
        ('{"a": "\\udc00"}', "a"),
        ('{"a": ["x", "\\ud83dx"]}', "a[1]"),
        ('{"a": {"b": "\\ude00\\ud83d"}}', "a.b"),
        ('{"\\ud800": 1}', ""),
        ('[{"\\ud800": 1}]', "[0]"),
    ],
)
def test_half_characters_are_found_wherever_they_are(text: str, path: str) -> None:
    found = problem(text)
    assert (found.reason, found.path) == ("DATASET_LONE_SURROGATE", path)


@pytest.mark.parametrize("text", ['"\\ud83d\\ude00"', '"\\\\ud800"', '{"\\u00e4": "\\uffff"}', '"\\u0000"'])
def test_whole_characters_are_no_halves(text: str) -> None:
    assert parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize("brackets", ["[]", '{"a":}'], ids=["lists", "objects"])
def test_it_nests_so_deep_and_no_deeper(brackets: str) -> None:
    opening, closing = brackets[:-1], brackets[-1]

    def nested(levels: int) -> str:
        return opening * levels + ("1" if opening != "[" else "") + closing * levels

    assert parse(nested(MAX_DEPTH).encode()) == json.loads(nested(MAX_DEPTH))
    found = problem(nested(MAX_DEPTH + 1))
    assert (found.reason, found.offset) == ("DATASET_TOO_DEEP", len(opening) * MAX_DEPTH)


@pytest.mark.parametrize("text", ['"' + "[" * 100 + '"', '["\\"[[[[[[", ' + '"' + "{" * 50 + '"]', "[" + "[]," * 50 + "[]]"])
def test_brackets_in_texts_and_beside_each_other_are_not_deep(text: str) -> None:
    assert parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', "7"])
def test_a_text_that_is_json_after_all_has_a_reason_still(text: str) -> None:
    assert explain(text).reason == "DATASET_NOT_JSON"


@given(st.integers(1, 40), st.sampled_from(["", "-"]))
def test_integers_have_at_most_19_digits(digits: int, sign: str) -> None:
    text = sign + "9" * digits
    if digits <= 19:
        assert parse(text.encode()) == int(text)
    else:
        assert problem(text).reason == "DATASET_NUMBER"
