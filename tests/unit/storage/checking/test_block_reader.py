"""Rows are judged alike whether they are read all at once or one by one, and common rows are read at once."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.storage.checking.checks import ANSWER, GOOD, USER, Checked, of

from services.storage.checking import block_reader
from services.storage.checking.block_reader import BlockReader
from services.storage.checking.example import Batch, Example, Format, batch_of
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import read_row
from services.storage.checking.tool_rows import read_tool_rows
from services.storage.checking.trusted_json import trusted

CALL = '{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}'
CALLING = f'{{"role": "assistant", "content": null, "tool_calls": [{CALL}]}}'
ANSWERED = '{"role": "tool", "content": "21", "tool_call_id": "c1"}'
PARTS = '{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "\\u0022b"}]}'
SCHEMA = '{"type": "object", "properties": {"a": {"type": "string"}}}'
TOOL = f'{{"type": "function", "function": {{"name": "f", "parameters": {SCHEMA}}}}}'
TOOLS = f', "tools": [{TOOL}], "parallel_tool_calls": true'
SILENT = '{"role": "assistant", "content": "x", "weight": 0, "name": null, "refusal": null}'
UNWEIGHTED = '{"role": "assistant", "content": [{"type": "text", "text": "x"}], "weight": null}'


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


values = st.sampled_from(
    [
        *(
            "0",
            "-0",
            "1.5",
            "1e400",
            "NaN",
            "null",
            "true",
            "01",
            "[]",
            "{}",
            "[[1]]",
            '{"a": 1, "a": 2}',
            '{"a": 1, "\\u0061": 1}',
        ),
        *("9" * 19, "-" + "9" * 19, "9" * 20, '"' + "9" * 20 + '"', nested(29), nested(31), nested(33), "[" + "{}," * 40 + "1]"),
        *(
            '""',
            '"x"',
            '"\\ud800"',
            '"\\ud83d\\ude00"',
            '"c1"',
            '"f"',
            '"\\u0022"',
            '"\\\\u0022"',
            '"\\""',
            '"\x01"',
            '"\\u0000"',
        ),
    ]
)
KEYS = ('"id"', '"meta"', '"idé"', '"tool"', '"label"', '"text"', '"i\\u0064"', '"x\\u0022"')
REPLACED = ("hi", "yo", "x", "21", "c1", "{}", "f", "null", "true", '"role"', '"content"', '"type"', '"id"', '"name"', '"weight"')


@st.composite
def wide_rows(draw: st.DrawFn) -> bytes:
    """A row of any format with anything OpenAI's layouts know, with further keys, and perhaps with one thing changed."""
    extra = st.tuples(
        st.sampled_from(['"id"', '"meta"', '"idé"', '"tool"', '"label"', '"text"', '"i\\u0064"', '"x\\u0022"']), values
    )
    more = "".join(f", {key}: {value}" for key, value in draw(st.lists(extra, max_size=2)))
    some = st.sampled_from([USER, ANSWER, CALLING, ANSWERED, PARTS, SILENT, UNWEIGHTED])
    messages = draw(st.one_of(st.just([USER, CALLING, ANSWERED, ANSWER]), st.just([PARTS, ANSWER]), st.lists(some, max_size=4)))
    tools = draw(st.sampled_from(["", TOOLS, ', "tools": []', ', "tools": null']))
    chat = of(*messages, more=tools)
    row = draw(
        st.sampled_from(
            [
                chat,
                chat,
                of(*messages, more=', "label": "a"'),
                '{"text": "x"}',
                f'{{"input": {chat}, "preferred_output": [{ANSWER}], "non_preferred_output": [{SILENT.replace("0", "1")}]}}',
            ]
        )
    )
    row = row[:-1] + more + "}"
    if draw(st.booleans()):
        old = draw(st.sampled_from(REPLACED))
        row = row.replace(old, draw(st.one_of(st.sampled_from(REPLACED), values)), draw(st.sampled_from([1, -1])))
    return row.encode("utf-8", "surrogatepass")


def one_by_one(rows: list[bytes], expected: Format) -> list[object]:
    found: list[object] = []
    for row in rows:
        try:
            found.append(facts(batch_of([read_row(row, expected)])))
        except RowProblem as problem:
            found.append([(problem.reason, problem.path, problem.message, problem.offset)])
    return found


def at_once(rows: list[bytes], expected: Format) -> list[object]:
    found: list[object] = []
    for index, what in BlockReader().read(rows, expected):
        assert index == sum(map(len, found))
        if isinstance(what, Batch):
            found.append(facts(what))
        else:
            found.append([(what.reason, what.path, what.message, what.offset)])
    return found


def facts(batch: Batch) -> list[tuple[Any, ...]]:
    """What is said of each row; sums over the batch stand at its first."""
    none = [()] * len(batch.texts)
    empty = batch.empty_contents or [0] * len(batch.texts)
    rows = zip(batch.shapes, batch.texts, batch.endings, empty, batch.ignored_keys or none, strict=True)
    return [(*row, 0, 0) if index else (*row, batch.learned_characters, batch.with_tools) for index, row in enumerate(rows)]


def flat(found: list[object]) -> tuple[list[object], list[int]]:
    """The rows without sums, and the sums."""
    rows: list[tuple[Any, ...]] = [row for part in found for row in part]  # type: ignore[attr-defined]
    good = [row for row in rows if len(row) == 7]
    return [row[:5] for row in rows], [sum(row[5] for row in good), sum(row[6] for row in good)]


@settings(max_examples=400, deadline=None)
@given(st.lists(wide_rows(), min_size=1, max_size=12), st.sampled_from([Format.CHAT, Format.CHAT, *Format]))
def test_rows_read_at_once_are_judged_as_each_alone(rows: list[bytes], expected: Format) -> None:
    assert flat(at_once(rows, expected)) == flat(one_by_one(rows, expected))


@settings(max_examples=200, deadline=None)
@given(wide_rows())
def test_a_row_among_many_good_ones_is_judged_as_alone(row: bytes) -> None:
    rows = [GOOD.encode(), row, GOOD.encode()]
    assert flat(at_once(rows, Format.CHAT)) == flat(one_by_one(rows, Format.CHAT))


COMMON = {
    "an id": of(USER, ANSWER, more=', "id": 7'),
    "an id before": '{"id": "a", ' + GOOD[1:],
    "metadata": of(USER, ANSWER, more=', "metadata": {"source": "web", "tags": ["a", "b"]}'),
    "weights": of(USER, SILENT.replace(', "name": null, "refusal": null', ""), ANSWER),
    "names": of(USER.replace("}", ', "name": "bob \\" smith"}'), ANSWER),
    "quotes spelled in hexadecimal": GOOD.replace("yo", "\\u0022yo\\u0022"),
    "tools": of(USER, CALLING, ANSWERED, ANSWER, more=TOOLS),
    "calls without tools": of(USER, CALLING, ANSWERED, ANSWER),
    "parts": of(PARTS, ANSWER),
    "empty keys of an API": of(USER, SILENT, ANSWER.replace("}", ', "refusal": null, "annotations": []}')),
    "weights that are null": of(USER.replace("}", ', "weight": null}'), ANSWER.replace("}", ', "weight": null}')),
    "parts and a weight": of(PARTS, SILENT, ANSWER),
    "forty messages": of(*[USER, ANSWER] * 20, more=', "id": 1'),
}


@pytest.mark.parametrize("name", COMMON)
def test_common_rows_are_never_read_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Example:
        raise AssertionError(name)

    expected = one_by_one([COMMON[name].encode()] * 20, Format.CHAT)
    monkeypatch.setattr(block_reader, "read_value", fail)
    monkeypatch.setattr(block_reader, "read_row", fail)
    (found,) = BlockReader().read([COMMON[name].encode()] * 20, Format.CHAT)
    assert flat([facts(found[1])]) == flat(expected)  # type: ignore[arg-type]


OTHERS = {
    Format.LABELED: of(USER, more=', "label": "a", "id": 1'),
    Format.TEXT: '{"text": "x", "source": {"url": "y"}}',
    Format.PREFERENCE: f'{{"id": 1, "input": {{"messages": [{USER}]}}, "preferred_output": [{ANSWER}],'
    ' "non_preferred_output": [{"role": "assistant", "content": "no"}]}',
}


@pytest.mark.parametrize("expected", OTHERS)
def test_rows_of_other_formats_may_have_further_keys(expected: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [OTHERS[expected].encode()] * 9
    alone = one_by_one(rows, expected)
    monkeypatch.delattr(block_reader, "read_row")
    assert flat(at_once(rows, expected)) == flat(alone)


LABELS = ["7", "-7", "0", "-0", "9" * 19, "-" + "9" * 19, '"a"', '"\\u0022"', '"7"']


@given(st.lists(st.sampled_from(LABELS), min_size=9, max_size=20))
def test_labels_may_be_numbers(labels: list[str]) -> None:
    rows = [of(USER, more=f', "label": {label}').encode() for label in labels]
    found = at_once(rows, Format.LABELED)
    assert len(found) == 1
    assert flat(found) == flat(one_by_one(rows, Format.LABELED))


@pytest.mark.parametrize("label", ["1.0", "1e2", "9" * 20, "1" + "0" * 19, "true", "null", "01", '""', '" "', '"\\u0000"', "[1]"])
def test_what_is_no_label_is_told(label: str) -> None:
    good = of(USER, more=', "label": 1').encode()
    rows = [good] * 9 + [of(USER, more=f', "label": {label}').encode()]
    assert flat(at_once(rows, Format.LABELED)) == flat(one_by_one(rows, Format.LABELED))
    assert len(at_once(rows, Format.LABELED)) >= 2


DOUBTFUL = {
    "a key twice deep inside": '{"a": {"b": [{"c": 1, "c": 2}]}}',
    "a key twice, spelled otherwise": '{"a": 1, "\\u0061": 2}',
    "a key twice behind quotes": '{"a": "\\u0022", "b": 1, "b": "\\""}',
    "a key twice behind a backslash": '{"a": "\\\\u0022", "b": 1, "b": 1}',
    "33 levels": '{"a": ' + nested(32) + "}",
    "no end of levels": '{"a": ' + "[" * 100_000 + "}",
    "20 digits": '{"a": 12345678901234567890}',
    "5,000 digits": '{"a": ' + "9" * 5000 + "}",
    "an infinite number": '{"a": 1e999}',
    "NaN": '{"a": NaN}',
    "half a character": '{"a": "\\ud83d"}',
    "half a character as key": '{"\\udc00": 1}',
    "two rows on a line": "{}{}",
    "a control character": '{"a": "\x1f"}',
    "a list": "[1]",
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_the_decoder_is_laxer_about_is_not_trusted(name: str) -> None:
    rows = [b'{"a": 1}', DOUBTFUL[name].encode()]
    assert trusted(rows, b"\n".join(rows), framed=False) is None


@pytest.mark.parametrize("broken", [b'{"a": "\xff"}', b'{"\xc0\xaf": 1}', b'{"a": "\xed\xa0\x80"}'])
def test_bytes_that_are_no_utf_8_are_not_trusted(broken: bytes) -> None:
    assert trusted([broken], broken, framed=False) is None


def test_an_object_over_two_lines_is_not_trusted() -> None:
    rows = [b"{}{}", b'{"a":{', b'"b":{}}}']
    assert trusted(rows, b"\n".join(rows), framed=False) is None


def test_what_is_trusted_is_what_json_says() -> None:
    rows = [
        '{"a": ' + nested(31) + "}",
        '{"a": 9999999999999999999, "b": "\\ud83d\\ude00\\u0022", "c": -9999999999999999999}',
        '{"a": -0.5e3, "é": null}',
    ]
    lines = [row.encode() for row in rows]
    assert trusted(lines, b"\n".join(lines), framed=False) == [json.loads(row) for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        of(USER, CALLING.replace('"{}"', '"{"'), ANSWER),
        of(USER, CALLING.replace("assistant", "user"), ANSWER),
        of(USER, ANSWERED, ANSWER),
        of(USER, CALLING.replace("null", '""').replace(f"[{CALL}]", "[]"), ANSWER),
        of(USER, USER.replace("}", ', "weight": 1}'), ANSWER),
        of(USER, ANSWER, more=f', "tools": [{TOOL}, {TOOL}]'),
        of(USER, ANSWER, more=', "tools": {}'),
        of(USER, ANSWER, more=', "tool": []'),
        of(USER, ANSWER, more=', "label": "a"'),
        of(USER, SILENT),
        of(CALLING, ANSWERED, ANSWER),
        of(USER, '{"role": "assistant", "content": null}'),
        of(PARTS.replace("text", "image_url"), ANSWER),
    ],
)
def test_bad_rows_with_tools_are_left_to_the_definition(row: str) -> None:
    text = row.encode()
    assert read_tool_rows(text, ("id",)) is None
    assert Checked(GOOD.encode() + b"\n" + text).outcome["dropped_row_count"] == 1


def test_ignored_keys_are_counted_and_named_over_many_rows() -> None:
    rows = [GOOD, of(USER, ANSWER, more=', "id": 1'), of(USER, ANSWER, more=', "source": 1, "id": 2'), GOOD] * 50
    warning = Checked("\n".join(rows).encode()).warnings["DATASET_KEYS_IGNORED"]
    assert (warning["count"], warning["lines"]) == (100, [2, 3, 6, 7, 10])
    assert "'id', 'source'" in warning["message"]


def test_a_bad_row_among_rows_with_tools_is_the_only_one_dropped() -> None:
    good = COMMON["tools"].encode()
    for bad in (b'{"messages": []}', b'{"messages": [], "messages": []}', good[:-9]):
        checked = Checked(b"\n".join([good] * 700 + [bad] + [good] * 300))
        assert [line for line, _, _ in checked.places] == [701]
        assert checked.statistics["with_tools_count"] == 1000
        assert checked.statistics["messages_by_role"] == {"user": 1000, "assistant": 2000, "tool": 1000}


def test_equal_rows_are_duplicates_whichever_way_they_are_read() -> None:
    """A doubtful number elsewhere sends one of two equal rows another way."""
    tools = COMMON["tools"]
    doubtful = tools[:-1] + ', "seed": 0.12345678901234567890123}'
    statistics = Checked("\n".join([GOOD, tools, doubtful, tools]).encode()).statistics
    assert statistics["duplicate_count"] == 2
