"""What a row of each format is, told by its keys; what is wrong with one has a reason and a path."""

import json
from typing import Any

import pytest

from services.storage.checking.doubt import Doubt
from services.storage.checking.example import Example, Format
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import has_format, ignored_in, read_row, read_value

ASK = {"role": "user", "content": "q"}
SAY = {"role": "assistant", "content": "yes"}
OTHER = {"role": "assistant", "content": "no"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
ROWS: dict[Format, dict[str, Any]] = {
    Format.CHAT: {"messages": [ASK, SAY]},
    Format.LABELED: {"messages": [ASK], "label": "a"},
    Format.PREFERENCE: {"input": {"messages": [ASK]}, "preferred_output": [SAY], "non_preferred_output": [OTHER]},
    Format.TEXT: {"text": "some words"},
}


def read(value: Any, expected: Format | None = None) -> Example:
    return read_row(json.dumps(value).encode(), expected)


def problem(value: Any, expected: Format | None = None) -> tuple[str, str]:
    with pytest.raises(RowProblem) as caught:
        read(value, expected)
    return caught.value.reason, caught.value.path


@pytest.mark.parametrize("found", Format)
def test_a_format_is_told_by_its_keys(found: Format) -> None:
    assert read(ROWS[found]).format is found
    assert read(ROWS[found], found) == read_value(ROWS[found], None)


@pytest.mark.parametrize("found", Format)
@pytest.mark.parametrize("expected", Format)
def test_a_row_of_another_format_is_refused(found: Format, expected: Format) -> None:
    if found is expected:
        read(ROWS[found], expected)
    else:
        assert problem(ROWS[found], expected) == ("DATASET_FORMAT_MIXED", "")


@pytest.mark.parametrize(
    ("row", "reason", "path"),
    [
        ([1], "DATASET_NOT_OBJECT", ""),
        (None, "DATASET_NOT_OBJECT", ""),
        ({}, "DATASET_MESSAGES_MISSING", "messages"),
        ({"id": 1}, "DATASET_MESSAGES_MISSING", "messages"),
        ({"mesages": [ASK]}, "DATASET_MESSAGES_MISSING", "messages"),
        ({"conversations": []}, "DATASET_FORMAT_OTHER", ""),
        ({"instruction": "a", "output": "b"}, "DATASET_FORMAT_OTHER", ""),
        ({"prompt": "a", "completion": "b"}, "DATASET_FORMAT_OTHER", ""),
        ({"question": "a", "answer": "b"}, "DATASET_FORMAT_OTHER", ""),
        ({"text": "a", "label": 1}, "DATASET_FORMAT_OTHER", ""),
        ({"examples": [{}]}, "DATASET_WRAPPED", "examples"),
        ({**ROWS[Format.CHAT], "tols": []}, "DATASET_KEY_UNKNOWN", ""),
        ({**ROWS[Format.LABELED], "labels": []}, "DATASET_KEY_UNKNOWN", ""),
        ({**ROWS[Format.TEXT], "texts": []}, "DATASET_KEY_UNKNOWN", ""),
        ({**ROWS[Format.PREFERENCE], "prefered_output": []}, "DATASET_KEY_UNKNOWN", ""),
        ({**ROWS[Format.CHAT], "parallel_tool_calls": 1}, "DATASET_TOOLS_INVALID", "parallel_tool_calls"),
        ({**ROWS[Format.CHAT], "tools": {}}, "DATASET_TOOLS_INVALID", "tools"),
        ({"text": None}, "DATASET_TEXT", "text"),
        ({"text": ""}, "DATASET_TEXT", "text"),
        ({"text": " \n"}, "DATASET_TEXT", "text"),
        ({"messages": [ASK], "label": None}, "DATASET_LABEL", "label"),
        ({"messages": [ASK], "label": True}, "DATASET_LABEL", "label"),
        ({"messages": [ASK], "label": 1.0}, "DATASET_LABEL", "label"),
        ({"messages": [ASK], "label": "x" * 201}, "DATASET_LABEL", "label"),
        ({"messages": [ASK], "label": "a\0"}, "DATASET_LABEL", "label"),
        ({"messages": [], "label": "a"}, "DATASET_MESSAGES_MISSING", "messages"),
        ({"preferred_output": [SAY], "non_preferred_output": [OTHER]}, "DATASET_PREFERENCE", "input"),
        ({**ROWS[Format.PREFERENCE], "input": []}, "DATASET_PREFERENCE", "input"),
        ({**ROWS[Format.PREFERENCE], "input": {}}, "DATASET_PREFERENCE", "input"),
        ({**ROWS[Format.PREFERENCE], "input": {"messages": []}}, "DATASET_MESSAGES_MISSING", "input.messages"),
        ({**ROWS[Format.PREFERENCE], "input": {"messages": [SAY]}}, "DATASET_BEGINS_WITH_ASSISTANT", "input.messages[0].role"),
        (
            {**ROWS[Format.PREFERENCE], "input": {"messages": [ASK], "parallel_tool_calls": "x"}},
            "DATASET_TOOLS_INVALID",
            "input.parallel_tool_calls",
        ),
        ({**ROWS[Format.PREFERENCE], "input": {"messages": [ASK], "tools": []}}, "DATASET_TOOLS_INVALID", "input.tools"),
        ({**ROWS[Format.PREFERENCE], "preferred_output": SAY}, "DATASET_PREFERENCE", "preferred_output"),
        ({**ROWS[Format.PREFERENCE], "preferred_output": []}, "DATASET_PREFERENCE", "preferred_output"),
        ({**ROWS[Format.PREFERENCE], "non_preferred_output": [OTHER, OTHER]}, "DATASET_PREFERENCE", "non_preferred_output"),
        ({**ROWS[Format.PREFERENCE], "non_preferred_output": [ASK]}, "DATASET_PREFERENCE", "non_preferred_output[0]"),
        ({**ROWS[Format.PREFERENCE], "preferred_output": [{**SAY, "weight": 0}]}, "DATASET_PREFERENCE", "preferred_output[0]"),
        ({**ROWS[Format.PREFERENCE], "non_preferred_output": [SAY]}, "DATASET_PREFERENCE_EQUAL", "non_preferred_output"),
        ({"input": {"messages": [ASK]}, "preferred_output": [SAY]}, "DATASET_PREFERENCE", "non_preferred_output"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:60],
)
def test_a_bad_row_is_named(row: Any, reason: str, path: str) -> None:
    assert problem(row) == (reason, path)


def test_what_a_chat_row_says() -> None:
    row = {"messages": [{**ASK, "role": "system", "content": ""}, ASK, {**SAY, "weight": 0}, ASK, OTHER], "id": 1, "a": 2}
    found = read(row)
    assert found.shape == ("system", "user", "assistant, weight 0", "user", "assistant")
    assert (found.text, found.ending) == ("\x1fq\x1fyes\x1fq\x1fno", "no")
    assert (found.empty_contents, found.learned_characters, found.with_tools) == (1, 2, False)
    assert found.ignored_keys == ("a", "id")


def test_calls_are_learned_and_tools_are_part_of_the_row() -> None:
    row = {"messages": [ASK, {"role": "assistant", "tool_calls": [CALL]}], "tools": TOOLS}
    found = read(row)
    content, called, declared = found.text.split("\x1f")
    assert (content, json.loads(called), json.loads(declared)) == ("q", [CALL], TOOLS)
    assert (found.learned_characters, found.with_tools) == (len(called), True)
    assert read({**row, "tools": None}).text == f"q\x1f{called}"


def test_of_a_labeled_row_the_label_is_learned_and_nothing_else() -> None:
    found = read({"messages": [ASK, SAY], "label": -7})
    assert (found.ending, found.learned_characters, found.text) == ("-7", 0, "q\x1fyes\x1f-7")


def test_of_a_preference_row_both_outputs_are_learned() -> None:
    found = read(ROWS[Format.PREFERENCE])
    assert (found.shape, found.learned_characters) == (("user", "assistant", "assistant"), len("yes" + "no"))


def test_outputs_may_answer_calls_of_the_input() -> None:
    asked = {
        "messages": [ASK, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "1", "tool_call_id": "c1"}]
    }
    assert read({**ROWS[Format.PREFERENCE], "input": asked}).with_tools


@pytest.mark.parametrize(
    ("keys", "expected", "fits"),
    [
        ((), Format.CHAT, True),
        (("id", "text"), Format.CHAT, True),
        (("label",), Format.CHAT, False),
        (("text",), Format.LABELED, True),
        (("messages",), Format.PREFERENCE, False),
        (("id",), Format.PREFERENCE, True),
        (("preferred_output",), Format.TEXT, False),
        (("label",), Format.TEXT, False),
        (("instruction",), Format.TEXT, True),
        (("instruction", "output"), Format.TEXT, False),
    ],
)
def test_some_further_keys_make_another_format(keys: tuple[str, ...], expected: Format, fits: bool) -> None:
    assert has_format(keys, expected) is fits


def test_further_keys_of_many_rows_are_sorted() -> None:
    rows = [{"messages": 1}, {"b": 1, "messages": 1, "a": 2}, {"tools": 1, "messages": 1, "z": 1}]
    assert ignored_in(rows, Format.CHAT) == [(), ("a", "b"), ("z",)]


@pytest.mark.parametrize("row", [{"text": 1}, {"messages": 1, "label": 2}])
def test_rows_of_another_format_are_in_doubt(row: dict[str, Any]) -> None:
    with pytest.raises(Doubt):
        ignored_in([{"messages": 1}, row], Format.CHAT)


def test_rows_with_misspelled_keys_are_bad() -> None:
    with pytest.raises(RowProblem, match="did you mean 'tools'"):
        ignored_in([{"messages": 1}, {"messages": 1, "tool": []}], Format.CHAT)
