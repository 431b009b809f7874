"""Every field of a question has its rule, and its path in the answer."""

import dataclasses
from typing import Any

import pytest

from services.common.errors import InvalidArgument
from services.inference.guides import Constraint, Language
from services.inference.question import Given, Message, Question
from services.inference.tools import Mode, Tool, ToolCall, ToolChoice

CALL = ToolCall("c1", "bell", '{"loud": true}')
GOOD = Question("tiny", (Message("system", "Be brief."), Message("user", "Hello")))


def fields_refused(**changes: Any) -> list[str]:
    with pytest.raises(InvalidArgument) as refused:
        dataclasses.replace(GOOD, **changes).check()
    assert refused.value.reason == "INVALID_FIELD"
    return [violation.field for violation in refused.value.violations]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 2.0, "top_p": 1e-9, "max_tokens": 1, "seed": 0},
        {"top_k": 10**6, "min_p": 1.0, "frequency_penalty": -2.0, "presence_penalty": 2.0, "repetition_penalty": 10.0},
        {"logit_bias": tuple((token, 100.0) for token in range(300))},
        {"seed": 2**63 - 1, "stop": ("a", "b", "c", "d")},
        {"messages": (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))},
        {"messages": (Message("system", "only an instruction"),)},
        {"n": 8, "logprobs": 20, "constraint": Constraint(Language.REGEX, "a", "response_format.regex")},
        {"messages": (Message("user", "a"), Message("assistant", "", (CALL,)), Message("tool", "b", tool_call_id="c1"))},
        {"messages": (), "given": Given("a text")},
        {"messages": (), "given": Given(ids=(1,), echo=True), "max_tokens": 0},
    ],
)
def test_what_is_within_the_limits_is_accepted(changes: dict[str, Any]) -> None:
    dataclasses.replace(GOOD, **changes).check()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "given": Given("a")}, "max_tokens"),
        ({"given": Given()}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"logprobs": 21}, "top_logprobs"),
        ({"logprobs": -1}, "top_logprobs"),
        ({"constraint": Constraint(Language.REGEX, "a" * 70_000, "response_format.regex")}, "response_format.regex"),
        ({"constraint": Constraint(Language.REGEX, "a", "f"), "tools": (Tool("bell"),)}, "response_format"),
        ({"tools": (Tool("a b"),)}, "tools[0].name"),
        ({"messages": (Message("user", "a", (CALL,)),)}, "messages[0].tool_calls"),
        ({"messages": (Message("user", "a", name="bell"),)}, "messages[0].tool_call_id"),
        (
            {"messages": (Message("assistant", "", (ToolCall("c", "", "{}"),)), Message("user", "b"))},
            "messages[0].tool_calls[0].name",
        ),
        (
            {"messages": (Message("assistant", "", (ToolCall("c", "bell", "[]"),)), Message("user", "b"))},
            "messages[0].tool_calls[0].arguments",
        ),
        ({"max_tokens": -5}, "max_tokens"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": 1.1}, "min_p"),
        ({"min_p": float("nan")}, "min_p"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": float("-inf")}, "presence_penalty"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"repetition_penalty": 10.1}, "repetition_penalty"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty"),
        ({"logit_bias": tuple((token, 1.0) for token in range(301))}, "logit_bias"),
        ({"logit_bias": ((5, 1.0), (6, 101.0))}, "logit_bias[6]"),
        ({"logit_bias": ((5, float("nan")),)}, "logit_bias[5]"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ("a", "b", "c", "d", "e")}, "stop"),
        ({"stop": ("a", "")}, "stop[1]"),
        ({"messages": ()}, "messages"),
        ({"messages": (Message("user", "a"), Message("robot", "b"), Message("user", "c"))}, "messages[1].role"),
        ({"messages": (Message("user", ""),)}, "messages[0].content"),
        ({"messages": (Message("user", "a"), Message("assistant", "b"))}, "messages[1].role"),
    ],
)
def test_what_is_outside_is_refused_by_its_path(changes: dict[str, Any], field: str) -> None:
    assert fields_refused(**changes) == [field]


def test_all_that_is_wrong_is_named_at_once() -> None:
    messages = (Message("", "a"), Message("user", ""))
    assert fields_refused(messages=messages, top_p=0.0, seed=-1) == ["messages[0].role", "messages[1].content", "top_p", "seed"]


@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_all_but_the_user_may_have_had_nothing_to_say(role: str) -> None:
    messages = (Message("user", "a"), Message(role, ""), Message("user", "b"))
    dataclasses.replace(GOOD, messages=messages).check()


def test_an_unbounded_role_does_not_reach_the_message() -> None:
    with pytest.raises(InvalidArgument) as refused:
        dataclasses.replace(GOOD, messages=(Message("x" * 10_000, "a"),)).check()
    assert len(refused.value.message) < 200


def test_tools_are_offered_unless_none_may_be_called() -> None:
    asked = dataclasses.replace(GOOD, tools=(Tool("bell"),))
    assert asked.offered == (Tool("bell"),)
    assert dataclasses.replace(asked, tool_choice=ToolChoice(Mode.NONE)).offered == ()


@pytest.mark.parametrize(
    ("messages", "refused"),
    [
        ((Message("user", "a"), Message("assistant", "b")), None),
        ((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), None),
        ((Message("user", "a"),), "messages"),
        ((), "messages"),
        ((Message("robot", "a"), Message("assistant", "b")), "messages[0].role"),
        ((Message("user", "a"), Message("assistant", "b", weight=0), Message("assistant", "c")), None),
        ((Message("user", "a"), Message("assistant", "b", weight=0)), "messages"),
        ((Message("user", "a", weight=0), Message("assistant", "b")), "messages[0].weight"),
        ((Message("user", "a"), Message("assistant", "b", weight=2)), "messages[1].weight"),
    ],
    ids=[
        *("answered", "answered before", "no answer", "nothing", "unknown role"),
        *("one judged", "none judged", "user's weight", "no weight"),
    ],
)
def test_only_a_conversation_with_an_answer_can_be_judged(messages: tuple[Message, ...], refused: str | None) -> None:
    question = Question("tiny", messages)
    if refused is None:
        question.check_as_conversation()
        return
    with pytest.raises(InvalidArgument) as error:
        question.check_as_conversation()
    assert [violation.field for violation in error.value.violations] == [refused]
