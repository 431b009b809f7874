"""Rows with tools, calls and parts, all at once: what is taken is the same as from the definition, and the rest is left to it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.storage.checking.test_block_reader import facts, flat, one_by_one

from services.storage.checking import tool_rows
from services.storage.checking.example import Format
from services.storage.checking.tool_rows import read_tool_rows

ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": "\\"1\\""}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
FOUND = {"role": "tool", "content": "21", "tool_call_id": "c1"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": ["x", 1]}}}}}
PARTS = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": 'b"'}]}


def chat(*messages: Any, **keys: Any) -> dict[str, Any]:
    return {"messages": list(messages), **keys}


TAKEN = {
    "plain": chat(ASK, SAY),
    "calls": chat(ASK, CALLING, FOUND, SAY),
    "tools": chat(ASK, SAY, tools=[TOOL]),
    "tools that are null": chat(ASK, SAY, tools=None),
    "everything": chat(ASK, CALLING, FOUND, SAY, tools=[TOOL], parallel_tool_calls=False),
    "parallel that is null": chat(ASK, SAY, parallel_tool_calls=None),
    "two calls": chat(ASK, {**CALLING, "tool_calls": [CALL, {**CALL, "id": "c2"}]}, {**FOUND, "tool_call_id": "c2"}, FOUND),
    "a call without a content": chat(ASK, {"role": "assistant", "tool_calls": [CALL]}),
    "a call with a content": chat(ASK, {**CALLING, "content": "wait"}),
    "a silent call": chat(ASK, {**CALLING, "weight": 0}, FOUND, SAY),
    "parts": chat(PARTS, SAY),
    "parts of tools": chat(ASK, CALLING, {**FOUND, "content": PARTS["content"]}, SAY),
    "no calls beside a content": chat(ASK, {**SAY, "tool_calls": []}),
    "nulls": chat({**ASK, "weight": None, "name": None, "tool_calls": None, "tool_call_id": None}, {**SAY, "weight": None}),
    "keys of an API": chat(ASK, {**SAY, "refusal": None, "audio": None, "function_call": None, "annotations": []}),
    "an empty question": chat({**ASK, "content": ""}, SAY),
    "blanks": chat({**ASK, "content": " \n"}, SAY),
    "context first": chat({**SAY, "weight": 0}, ASK, SAY),
    "the last is not the assistant": chat(ASK, SAY, ASK),
}
LEFT = {
    "no answer": chat(ASK),
    "the assistant first": chat(SAY, ASK),
    "only weight 0": chat(ASK, {**SAY, "weight": 0}),
    "an empty answer": chat(ASK, {**SAY, "content": ""}),
    "an answer that is null": chat(ASK, {**SAY, "content": None}),
    "no messages": chat(),
    "an unknown role": chat({**ASK, "role": "x"}, SAY),
    "the weight of a question": chat({**ASK, "weight": 1}, SAY),
    "a weight of 2": chat(ASK, {**SAY, "weight": 2}),
    "a tool before a call": chat(ASK, FOUND, CALLING, SAY),
    "a tool that answers nothing": chat(ASK, CALLING, {**FOUND, "tool_call_id": None}, SAY),
    "an id on an answer": chat(ASK, CALLING, {**SAY, "tool_call_id": "c1"}),
    "calls of the user": chat({**ASK, "tool_calls": [CALL]}, SAY),
    "no calls of the user": chat({**ASK, "tool_calls": []}, SAY),
    "no calls and no content": chat(ASK, {**CALLING, "tool_calls": []}),
    "arguments that are no object": chat(ASK, {**CALLING, "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "1"}}]}),
    "a call without a name": chat(ASK, {**CALLING, "tool_calls": [{**CALL, "function": {"name": "", "arguments": "{}"}}]}),
    "a call without an id": chat(ASK, {**CALLING, "tool_calls": [{**CALL, "id": ""}]}),
    "a call of another type": chat(ASK, {**CALLING, "tool_calls": [{**CALL, "type": "x"}]}),
    "tools that are empty": chat(ASK, SAY, tools=[]),
    "a tool twice": chat(ASK, SAY, tools=[TOOL, TOOL]),
    "a tool without a name": chat(ASK, SAY, tools=[{"type": "function", "function": {}}]),
    "parallel that is a number": chat(ASK, SAY, parallel_tool_calls=1),
    "an image": chat({**ASK, "content": [{"type": "image_url", "image_url": {}}]}, SAY),
    "no parts": chat({**ASK, "content": []}, SAY),
    "a refusal": chat(ASK, {**SAY, "refusal": "no"}),
    "an unknown key": chat(ASK, {**SAY, "mood": "good"}),
    "a tool without a content": chat(ASK, CALLING, {**FOUND, "content": None}, SAY),
}


def alone(row: bytes) -> Any:
    return flat(one_by_one([row], Format.CHAT))


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_good_row_is_taken_and_is_the_same(name: str, ascii_only: bool) -> None:
    row = json.dumps(TAKEN[name], ensure_ascii=ascii_only).encode()
    batch = read_tool_rows(row)
    assert batch is not None
    assert flat([facts(batch)]) == alone(row)


@pytest.mark.parametrize("name", LEFT)
def test_a_bad_row_is_left(name: str) -> None:
    row = json.dumps(LEFT[name]).encode()
    assert read_tool_rows(row) is None
    (said,) = alone(row)[0]
    assert said[0].startswith("DATASET_")


@settings(max_examples=100)
@given(st.lists(st.sampled_from(sorted(TAKEN)), min_size=2, max_size=8))
def test_good_rows_of_every_kind_are_taken_together(names: list[str]) -> None:
    rows = [json.dumps(TAKEN[name]).encode() for name in names]
    batch = read_tool_rows(b"\n".join(rows))
    assert batch is not None
    assert flat([facts(batch)]) == flat(one_by_one(rows, Format.CHAT))


@pytest.mark.parametrize("name", LEFT)
def test_one_bad_row_leaves_all(name: str) -> None:
    rows = [TAKEN["everything"], LEFT[name], TAKEN["plain"]]
    assert read_tool_rows(b"\n".join(json.dumps(row).encode() for row in rows)) is None


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    "damage",
    [
        replaced('"role": "user"', '"role": "user", "role": "user"'),
        replaced('"id": "c1"', '"id": "c1", "id": "c1"'),
        replaced('"name": "f"', '"name": "f", "n\\u0061me": "f"'),
        replaced('"enum": [', '"enum": 1, "enum": ['),
        replaced('"messages"', '"messages": [], "messages"'),
        replaced('"tools"', '"tools": null, "tools"'),
        replaced('["x", 1]', "[99999999999999999999]"),
        replaced('["x", 1]', "[1e999]"),
        replaced('["x", 1]', "[" * 40 + "]" * 40),
        replaced('["x", 1]', '["\\ud800"]'),
        replaced('["x", 1]', '["\\\\u0022\\u0022"]'),
        replaced('"q"', '"\\ud800"'),
        replaced('"q"', '"\x01"'),
    ],
)
def test_what_decoders_forgive_is_doubted(damage: Callable[[str], str]) -> None:
    good = json.dumps(TAKEN["everything"])
    assert read_tool_rows(good.encode()) is not None
    assert damage(good) != good
    assert read_tool_rows(damage(good).encode("utf-8", "surrogatepass")) is None


def test_two_rows_on_a_line_are_doubted() -> None:
    row = json.dumps(TAKEN["tools"]).encode()
    assert read_tool_rows(row + row) is None


def test_equal_tools_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.dumps(chat(ASK, SAY, tools=[{**TOOL, "function": {"name": "only_here"}}])).encode()
    assert read_tool_rows(row) is not None
    monkeypatch.delattr(tool_rows, "parse")
    assert read_tool_rows(b"\n".join([row] * 9)) is not None


def test_big_tools_are_read_and_not_kept() -> None:
    before = tool_rows._read_tools.cache_info().currsize
    big = chat(ASK, SAY, tools=[{**TOOL, "function": {"name": "f", "description": "x" * 70_000}}])
    batch = read_tool_rows(json.dumps(big).encode())
    assert batch is not None
    assert batch.with_tools == 1
    assert tool_rows._read_tools.cache_info().currsize == before


def test_the_order_of_keys_makes_no_other_row() -> None:
    turned = {**CALLING, "tool_calls": [dict(reversed(CALL.items()))]}
    rows = [chat(ASK, CALLING, tools=[TOOL]), dict(reversed(chat(ASK, turned, tools=[dict(reversed(TOOL.items()))]).items()))]
    batch = read_tool_rows(b"\n".join(json.dumps(row).encode() for row in rows))
    assert batch is not None
    assert batch.texts[0] == batch.texts[1]
