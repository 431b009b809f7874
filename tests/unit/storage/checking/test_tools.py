"""What tools and calls are: every mistake has the path to it, and equal ones are spelled equally."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.storage.checking.problem import RowProblem
from services.storage.checking.tools import check_calls, check_tools, declared_tools, holds_object, spelled

TOOL = {"type": "function", "function": {"name": "f", "description": "Does.", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def function(of: dict[str, Any], **keys: Any) -> dict[str, Any]:
    changed = {**of["function"], **keys}
    return {**of, "function": {key: value for key, value in changed.items() if value is not ...}}


BAD_TOOLS = [
    ({}, "tools"),
    ([], "tools"),
    ("f", "tools"),
    ([1], "tools[0]"),
    ([TOOL, None], "tools[1]"),
    ([{"function": TOOL["function"]}], "tools[0].type"),
    ([{**TOOL, "type": "retrieval"}], "tools[0].type"),
    ([{"type": "function"}], "tools[0].function"),
    ([{"type": "function", "function": "f"}], "tools[0].function"),
    ([function(TOOL, name=...)], "tools[0].function.name"),
    ([function(TOOL, name="")], "tools[0].function.name"),
    ([function(TOOL, name=7)], "tools[0].function.name"),
    ([function(TOOL, parameters="{}")], "tools[0].function.parameters"),
    ([function(TOOL, parameters=None)], "tools[0].function.parameters"),
    ([function(TOOL, description=None)], "tools[0].function.description"),
    ([TOOL, function(TOOL, description="Another.")], "tools[1].function.name"),
]


@pytest.mark.parametrize(("tools", "path"), BAD_TOOLS)
def test_bad_tools_are_named(tools: Any, path: str) -> None:
    for check in (check_tools, declared_tools):
        with pytest.raises(RowProblem) as caught:
            check(tools, "tools")
        assert (caught.value.reason, caught.value.path) == ("DATASET_TOOLS_INVALID", path)


def test_bad_tools_are_named_each_time_they_are_seen() -> None:
    for _ in range(3):
        with pytest.raises(RowProblem, match="declared twice"):
            declared_tools([TOOL, TOOL], "tools")


@pytest.mark.parametrize("tools", [[TOOL], [TOOL, function(TOOL, name="g")], [function(TOOL, description=..., parameters=...)]])
def test_good_tools_are_spelled(tools: list[Any]) -> None:
    assert json.loads(declared_tools(tools, "tools")) == tools


BAD_CALLS = [
    ({}, "tool_calls"),
    ([], "tool_calls"),
    (["f"], "tool_calls[0]"),
    ([{**CALL, "type": "code_interpreter"}], "tool_calls[0].type"),
    ([{"id": "c1", "function": CALL["function"]}], "tool_calls[0].type"),
    ([{"id": "c1", "type": "function"}], "tool_calls[0].function"),
    ([function(CALL, name=None)], "tool_calls[0].function.name"),
    ([{"type": "function", "function": CALL["function"]}], "tool_calls[0].id"),
    ([{**CALL, "id": ""}], "tool_calls[0].id"),
    ([CALL, {**CALL, "id": 2}], "tool_calls[1].id"),
    ([function(CALL, arguments=...)], "tool_calls[0].function.arguments"),
    ([function(CALL, arguments={"a": 1})], "tool_calls[0].function.arguments"),
    ([function(CALL, arguments="")], "tool_calls[0].function.arguments"),
    ([function(CALL, arguments="[1]")], "tool_calls[0].function.arguments"),
    ([function(CALL, arguments='{"a": 1')], "tool_calls[0].function.arguments"),
]


@pytest.mark.parametrize(("calls", "path"), BAD_CALLS)
def test_bad_calls_are_named(calls: Any, path: str) -> None:
    with pytest.raises(RowProblem) as caught:
        check_calls(calls, "tool_calls")
    assert (caught.value.reason, caught.value.path) == ("DATASET_TOOL_CALL_INVALID", path)


def test_good_calls_have_their_ids() -> None:
    assert check_calls([CALL, {**CALL, "id": "c2", "index": 1}], "tool_calls") == ["c1", "c2"]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("{}", True),
        ('  {"a": [1, 2]}\n', True),
        ('{"a": "\\ud800"}', True),
        ('{"a": 1e999}', True),
        ("[]", False),
        ("null", False),
        ("", False),
        ("{", False),
        ("{}{}", False),
        ("{'a': 1}", False),
        ("[" * 10_000, False),
        ('{"a": ' * 100_000, False),
    ],
)
def test_arguments_hold_an_object(text: str, holds: bool) -> None:
    assert holds_object(text) is holds


@given(st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | st.text(max_size=3), max_size=5), st.randoms())
def test_the_order_of_keys_does_not_change_the_spelling(value: dict[str, Any], chance: Any) -> None:
    keys = list(value)
    chance.shuffle(keys)
    shuffled = {key: value[key] for key in keys}
    assert spelled([shuffled]) == spelled([value])
    assert json.loads(spelled([value])) == [value]
