"""What a good conversation is: every mistake in a message has a reason of its own and the path to it."""

import json
from typing import Any

import pytest

from services.storage.checking.example import SILENT
from services.storage.checking.messages import check_learnable, read_messages
from services.storage.checking.problem import RowProblem

ASK = {"role": "user", "content": "q"}
SAY = {"role": "assistant", "content": "a"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
FOUND = {"role": "tool", "content": "21", "tool_call_id": "c1"}


def problem(*messages: Any) -> tuple[str, str]:
    with pytest.raises(RowProblem) as caught:
        check_learnable(read_messages(list(messages), "messages"), "messages")
    assert caught.value.message
    return caught.value.reason, caught.value.path.removeprefix("messages")


def changed(message: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**message, **keys}


MALFORMED, CONTENT = "DATASET_MESSAGE_MALFORMED", "DATASET_CONTENT_INVALID"
UNKNOWN, CALLS, TOOL = "DATASET_KEY_UNKNOWN", "DATASET_TOOL_CALL_INVALID", "DATASET_TOOL_MESSAGE"
BAD = {
    "a message that is null": ([None], MALFORMED, "[0]"),
    "a message that is a list": ([ASK, []], MALFORMED, "[1]"),
    "no role": ([{"content": "x"}], MALFORMED, "[0].role"),
    "nothing": ([{}], MALFORMED, "[0].role"),
    "a role that is a number": ([changed(ASK, role=1)], "DATASET_ROLE_UNKNOWN", "[0].role"),
    "a role in capitals": ([changed(ASK, role="User")], "DATASET_ROLE_UNKNOWN", "[0].role"),
    "an empty role": ([changed(ASK, role="")], "DATASET_ROLE_UNKNOWN", "[0].role"),
    "the role function": ([ASK, changed(SAY, role="function")], "DATASET_FUNCTION_CALL", "[1].role"),
    "a function call": ([ASK, changed(SAY, function_call={"name": "f"})], "DATASET_FUNCTION_CALL", "[1].function_call"),
    "no content": ([{"role": "user"}], MALFORMED, "[0].content"),
    "no content, and no calls but null": ([ASK, {"role": "assistant", "tool_calls": None}], MALFORMED, "[1].content"),
    "a content that is null": ([changed(ASK, content=None)], CONTENT, "[0].content"),
    "a content that is an object": ([changed(ASK, content={})], CONTENT, "[0].content"),
    "a content that is true": ([changed(ASK, content=True)], CONTENT, "[0].content"),
    "an empty answer": ([ASK, changed(SAY, content="")], CONTENT, "[1].content"),
    "an empty list of parts": ([changed(ASK, content=[])], CONTENT, "[0].content"),
    "a part that is a text": ([changed(ASK, content=["x"])], CONTENT, "[0].content[0]"),
    "a part without type": ([changed(ASK, content=[{"text": "x"}])], "DATASET_CONTENT_PART", "[0].content[0].type"),
    "a part that is audio": (
        [changed(ASK, content=[{"type": "text", "text": "x"}, {"type": "input_audio"}])],
        "DATASET_CONTENT_PART",
        "[0].content[1].type",
    ),
    "a part whose text is null": ([changed(ASK, content=[{"type": "text", "text": None}])], CONTENT, "[0].content[0].text"),
    "a part with another key": (
        [changed(ASK, content=[{"type": "text", "text": "x", "cache_control": {}}])],
        UNKNOWN,
        "[0].content[0]",
    ),
    "parts that say nothing": ([ASK, changed(SAY, content=[{"type": "text", "text": ""}])], CONTENT, "[1].content"),
    "a key nobody knows": ([changed(ASK, timestamp=1)], UNKNOWN, "[0]"),
    "a refusal that says something": ([ASK, changed(SAY, refusal="no")], UNKNOWN, "[1]"),
    "annotations that say something": ([ASK, changed(SAY, annotations=[1])], UNKNOWN, "[1]"),
    "reasoning": ([ASK, changed(SAY, reasoning_content="hm")], UNKNOWN, "[1]"),
    "a weight of 2": ([ASK, changed(SAY, weight=2)], "DATASET_WEIGHT", "[1].weight"),
    "a weight of a half": ([ASK, changed(SAY, weight=0.5)], "DATASET_WEIGHT", "[1].weight"),
    "a weight that is false": ([ASK, changed(SAY, weight=False)], "DATASET_WEIGHT", "[1].weight"),
    "a weight that is a text": ([ASK, changed(SAY, weight="1")], "DATASET_WEIGHT", "[1].weight"),
    "a weight of the user": ([changed(ASK, weight=1), SAY], UNKNOWN, "[0].weight"),
    "a name that is a list": ([changed(ASK, name=["x"]), SAY], MALFORMED, "[0].name"),
    "calls of the user": ([changed(ASK, tool_calls=[CALL]), SAY], UNKNOWN, "[0].tool_calls"),
    "a call's id on an answer": ([ASK, changed(SAY, tool_call_id="c1")], UNKNOWN, "[1].tool_call_id"),
    "calls that are an object": ([ASK, changed(CALLING, tool_calls={})], CALLS, "[1].tool_calls"),
    "no calls and no content": ([ASK, changed(CALLING, tool_calls=[])], CALLS, "[1].tool_calls"),
    "a tool before any call": ([ASK, FOUND, SAY], TOOL, "[1].tool_call_id"),
    "a tool without the call's id": ([ASK, CALLING, {"role": "tool", "content": "x"}], TOOL, "[2].tool_call_id"),
    "a tool with an empty id": ([ASK, CALLING, changed(FOUND, tool_call_id="")], TOOL, "[2].tool_call_id"),
    "a tool that answers another call": ([ASK, CALLING, changed(FOUND, tool_call_id="c2")], TOOL, "[2].tool_call_id"),
    "a tool without content": ([ASK, CALLING, changed(FOUND, content=None)], CONTENT, "[2].content"),
    "only questions": ([ASK, ASK], "DATASET_NO_ASSISTANT", ""),
    "only weight 0": ([ASK, changed(SAY, weight=0)], "DATASET_NOTHING_TO_LEARN", ""),
    "the assistant first": ([SAY, ASK, SAY], "DATASET_BEGINS_WITH_ASSISTANT", "[0].role"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_message_is_named(name: str) -> None:
    messages, reason, path = BAD[name]
    assert problem(*messages) == (reason, path)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [({}, "DATASET_MESSAGES_MISSING"), ("x", "DATASET_MESSAGES_MISSING"), ([], "DATASET_MESSAGES_MISSING")],
)
def test_messages_are_a_list_of_some(messages: Any, reason: str) -> None:
    with pytest.raises(RowProblem) as caught:
        read_messages(messages, "input.messages")
    assert (caught.value.reason, caught.value.path) == (reason, "input.messages")


GOOD = {
    "a question and an answer": ([ASK, SAY], ["user", "assistant"]),
    "system and developer": (
        [changed(ASK, role="system"), changed(ASK, role="developer"), SAY],
        ["system", "developer", "assistant"],
    ),
    "weights": ([ASK, changed(SAY, weight=0), ASK, changed(SAY, weight=1)], ["user", SILENT, "user", "assistant"]),
    "weights that are null": ([changed(ASK, weight=None), changed(SAY, weight=None)], ["user", "assistant"]),
    "a weight of 1.0": ([ASK, changed(SAY, weight=1.0)], ["user", "assistant"]),
    "context first": ([changed(SAY, weight=0), ASK, SAY], [SILENT, "user", "assistant"]),
    "calls": ([ASK, CALLING, FOUND, SAY], ["user", "assistant", "tool", "assistant"]),
    "calls without a content": ([ASK, {"role": "assistant", "tool_calls": [CALL]}, FOUND], ["user", "assistant", "tool"]),
    "content beside calls": ([ASK, changed(CALLING, content="wait")], ["user", "assistant"]),
    "an empty list of calls beside a content": ([ASK, changed(SAY, tool_calls=[])], ["user", "assistant"]),
    "an empty question": ([changed(ASK, content=""), SAY], ["user", "assistant"]),
    "names": ([changed(ASK, name="bob"), changed(SAY, name=None)], ["user", "assistant"]),
    "empty keys of an API": (
        [ASK, changed(SAY, refusal=None, audio=None, annotations=[], function_call=None)],
        ["user", "assistant"],
    ),
    "an empty result": ([ASK, CALLING, changed(FOUND, content=""), SAY], ["user", "assistant", "tool", "assistant"]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_conversation_has_its_turns(name: str) -> None:
    messages, kinds = GOOD[name]
    turns = read_messages(messages, "messages")
    check_learnable(turns, "messages")
    assert [turn.kind for turn in turns] == kinds


def test_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]
    (turn,) = read_messages([changed(ASK, content=parts)], "messages")
    assert (turn.content, turn.text, turn.empty) == ("ab", "ab", False)


def test_a_turn_says_its_content_its_calls_and_what_it_answers() -> None:
    _, calling, found = read_messages([ASK, changed(CALLING, content="wait"), FOUND], "messages")
    assert calling.text == "wait" + calling.calls
    assert json.loads(calling.calls) == [CALL]
    assert (list(calling.call_ids), found.answered, found.text) == (["c1"], "c1", "21c1")


@pytest.mark.parametrize(
    ("message", "empty"), [(ASK, False), (changed(ASK, content=" \n"), True), (changed(ASK, content=""), True)]
)
def test_a_turn_of_blanks_says_nothing(message: dict[str, Any], empty: bool) -> None:
    assert read_messages([message], "messages")[0].empty is empty


def test_a_turn_that_only_calls_says_something() -> None:
    assert not read_messages([ASK, CALLING], "messages")[1].empty


def test_of_several_mistakes_the_first_message_is_told() -> None:
    assert problem({"role": "x", "content": 1}, {"role": "y"}) == ("DATASET_ROLE_UNKNOWN", "[0].role")


def test_a_missing_key_is_told_before_a_misspelled_one() -> None:
    with pytest.raises(RowProblem, match="rename 'contnet' to 'content'"):
        read_messages([{"role": "user", "contnet": "x"}], "messages")
