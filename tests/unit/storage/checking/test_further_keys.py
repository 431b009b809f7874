"""Rows with keys that train nothing are read at once, as soon as such keys were seen, and judged as each alone."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.storage.checking.checks import ANSWER, GOOD, USER, Checked, of
from unit.storage.checking.test_block_reader import facts, flat, one_by_one, wide_rows

from services.storage.checking import block_reader
from services.storage.checking.block_reader import BlockReader
from services.storage.checking.doubt import Doubt
from services.storage.checking.example import Batch, Format
from services.storage.checking.further_keys import MAX_KEYS, further_of, learned, open_to
from services.storage.checking.plain_rows import read_plain
from services.storage.checking.tool_rows import read_tool_rows


class Row(msgspec.Struct):
    text: str


def decoded(keys: tuple[str, ...], *rows: str) -> list[Any]:
    return msgspec.json.Decoder(open_to(Row, keys)).decode_lines("\n".join(rows))


def texts(*values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"text": "x", **value} for value in values]


def test_keys_are_learned_and_sorted() -> None:
    assert learned((), texts({"id": 1}, {}, {"a": 2, "id": 3}), Format.TEXT) == ("a", "id")
    assert learned(("z",), texts({"id": 1}), Format.TEXT) == ("id", "z")
    assert learned(("z",), texts({}), Format.TEXT) == ("z",)


@pytest.mark.parametrize(
    "values",
    [
        [{"texts": 1}],  # a misspelling
        [{"messages": []}],  # another format
        [{"tools": []}],  # checked, not ignored
        [{"parallel_tool_calls": True}],
        [{'a"b': 1}],  # what no struct can expect
        [{"a\\b": 1}],
        [{"a\x01": 1}],
        [{f"key {number}": 1 for number in range(MAX_KEYS + 1)}],
    ],
)
def test_some_keys_are_never_learned(values: list[dict[str, Any]]) -> None:
    assert learned(("id",), texts(*values), Format.TEXT) == ("id",)


def test_so_many_keys_are_learned_and_no_more() -> None:
    many = {f"key {number:02}": 1 for number in range(MAX_KEYS)}
    assert learned((), texts(many), Format.TEXT) == tuple(sorted(many))
    assert learned(tuple(sorted(many)), texts({"one more": 1}), Format.TEXT) == tuple(sorted(many))


def test_each_row_has_the_keys_it_has() -> None:
    rows = decoded(("a", "é"), '{"text": "x", "a": 1}', '{"text": "x"}', '{"\\u00e9": [], "text": "x", "a": null}')
    ignored, _ = further_of(rows, ("a", "é"), Format.TEXT)
    assert ignored == [("a",), (), ("a", "é")]


def test_without_further_keys_nothing_is_said_of_them() -> None:
    assert further_of(decoded(("a",), '{"text": "x"}'), ("a",), Format.TEXT) == ((), 0)
    assert further_of(decoded((), '{"text": "x"}'), (), Format.TEXT) == ((), 0)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.text(max_size=3) | st.integers(0, 9), max_size=3), min_size=1))
def test_their_double_quotes_are_counted(values: list[dict[str, Any]]) -> None:
    keys = ("a", "b", "c")
    lines = [json.dumps({"text": "x", **value}) for value in values]
    _, quotes = further_of(decoded(keys, *lines), keys, Format.TEXT)
    assert quotes == "".join(lines).count('"') - 4 * len(lines)


@pytest.mark.parametrize(
    "value",
    [
        '{"b": 1, "b": 2}',
        "[" * 33 + "]" * 33,
        "12345678901234567890",
        "1e999",
        '"\\ud800"',
        '"\\\\u0022\\u0022"',
    ],
)
def test_what_is_not_certain_is_in_doubt(value: str) -> None:
    with pytest.raises((Doubt, msgspec.DecodeError)):
        further_of(decoded(("a",), f'{{"text": "x", "a": {value}}}'), ("a",), Format.TEXT)


@pytest.mark.parametrize(
    "value", ['"\\u0022"', "[" * 31 + "]" * 31, "9999999999999999999", '{"b": {"c": [1, "2"]}}', '"[[[[{{{{"']
)
def test_what_is_certain_is_taken(value: str) -> None:
    assert further_of(decoded(("a",), f'{{"text": "x", "a": {value}}}'), ("a",), Format.TEXT)[0] == [("a",)]


def test_keys_that_together_make_another_layout_are_in_doubt() -> None:
    keys = ("instruction", "output")
    rows = decoded(keys, '{"text": "x", "instruction": 1}', '{"text": "x", "output": 1}')
    assert further_of(rows, keys, Format.TEXT)[0] == [("instruction",), ("output",)]
    with pytest.raises(Doubt):
        further_of(decoded(keys, '{"text": "x", "instruction": 1, "output": 2}'), keys, Format.TEXT)


def test_unknown_keys_are_refused_by_the_decoder() -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(("a",), '{"text": "x", "b": 1}')


WITH_ID = of(USER, ANSWER, more=', "id": 7').encode()


def test_a_reader_learns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = BlockReader()
    ((_, first),) = reader.read([WITH_ID] * 20, Format.CHAT)
    monkeypatch.delattr(block_reader, "trusted")
    ((_, second),) = reader.read([WITH_ID, GOOD.encode()] * 10, Format.CHAT)
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert (list(first.ignored_keys), list(second.ignored_keys)) == ([("id",)] * 20, [("id",), ()] * 10)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(wide_rows(), min_size=1, max_size=12), min_size=2, max_size=3), st.sampled_from([Format.CHAT, *Format]))
def test_what_a_reader_remembers_changes_no_answer(blocks: list[list[bytes]], expected: Format) -> None:
    reader = BlockReader()
    for rows in blocks:
        found = []
        for _, what in reader.read(rows, expected):
            found += BATCHES(what)
        assert flat([found]) == flat(one_by_one(rows, expected))


def BATCHES(what: Any) -> list[Any]:

    return facts(what) if isinstance(what, Batch) else [(what.reason, what.path, what.message, what.offset)]


@pytest.mark.parametrize(
    "more", [', "id": 1, "id": 2', ', "id": {"a": 1, "a": 2}', ', "id": NaN', ', "id": 1e999', ', "id": "\\ud800"']
)
def test_a_bad_value_of_a_further_key_is_found_among_many_good_rows(more: str) -> None:
    rows = [WITH_ID] * 50 + [of(USER, ANSWER, more=more).encode()] + [WITH_ID] * 50
    checked = Checked(b"\n".join(rows))
    assert [line for line, _, _ in checked.places] == [51]
    assert checked.warnings["DATASET_KEYS_IGNORED"]["count"] == 100


@pytest.mark.parametrize("read", [lambda text, keys: read_plain(Format.CHAT, text, keys), read_tool_rows], ids=["plain", "tools"])
def test_both_fast_paths_take_them(read: Any) -> None:
    batch = read(b"\n".join([WITH_ID, GOOD.encode()]), ("id",))
    assert batch.ignored_keys == [("id",), ()]
    assert read(WITH_ID, ()) is None
    assert read(GOOD.encode(), ("id",)).ignored_keys == ()
