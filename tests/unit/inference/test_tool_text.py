"""Tool calls: which templates can be read back, what a model writes, and what it is made to write."""

import json
from pathlib import Path

import pytest
from chat_families import FAMILIES, make_family_model
from tiny_model import END, make_tiny_model, tiny_tokenizer

from services.common.rendering import Renderer
from services.inference.guides import Vocabulary
from services.inference.tool_text import ToolCallReader, speaks_tools, tool_constraint
from services.inference.tools import Mode, Tool, ToolCall, ToolChoice, tool_violations

TOKENIZER = tiny_tokenizer()
END_ID = TOKENIZER.token_to_id(END)
LAMP = Tool("lamp", "Switches.", '{"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}', strict=True)
BELL = Tool("bell")
CALL = '<tool_call>\n{"name": "lamp", "arguments": {"on": true}}\n</tool_call>'


@pytest.mark.parametrize(("family", "speaks"), [("qwen3", True), ("smollm2", False), ("llama3", False), ("gemma", False)])
def test_a_template_speaks_tools_when_calls_can_be_read_back(family: str, speaks: bool, tmp_path: Path) -> None:
    assert speaks_tools(Renderer.from_directory(make_family_model(tmp_path / family, FAMILIES[family]))) is speaks


def test_a_template_that_writes_calls_in_other_marks_does_not_speak_tools(tmp_path: Path) -> None:
    template = FAMILIES["qwen3"].template.replace("tool_call>", "function_call>")
    renderer = Renderer.from_directory(make_tiny_model(tmp_path, chat_template=template))
    assert renderer.writes_tool_calls
    assert not speaks_tools(renderer)


def read(text: str, size: int) -> tuple[str, list[tuple[str, object]], bool]:
    """What the reader makes of a text that comes in pieces of `size` characters."""
    reader, shown, calls = ToolCallReader(), "", []
    for start in range(0, len(text), size):
        more, found = reader.push(text[start : start + size])
        shown += more
        # Both go over the wire.
        calls += [(call.name.encode().decode(), json.loads(call.arguments.encode())) for call in found]
    return shown + reader.flush(), calls, reader.has_called


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "shown", "calls"),
    [
        ("Just text, 1 < 2.", "Just text, 1 < 2.", []),
        (CALL, "", [("lamp", {"on": True})]),
        (f"I switch.\n{CALL}", "I switch.\n", [("lamp", {"on": True})]),
        (f"{CALL}\n{CALL}\n", "", [("lamp", {"on": True})] * 2),
        ('<tool_call>{"name": "bell"}</tool_call>', "", [("bell", {})]),
        ("<tool_call>\nlamp on\n</tool_call>", "<tool_call>\nlamp on\n</tool_call>", []),
        ('<tool_call>{"name": 3, "arguments": {}}</tool_call>', '<tool_call>{"name": 3, "arguments": {}}</tool_call>', []),
        ('<tool_call>{"name": "lamp", "argu', '<tool_call>{"name": "lamp", "argu', []),
        ("a <tool", "a <tool", []),
        ('<tool_call>{"name": "bell", "arguments": {"a": "\\ud83d"}}</tool_call>', "", [("bell", {"a": "\ud83d"})]),
        ('<tool_call>{"name": "\\ud83d"}</tool_call>', '<tool_call>{"name": "\\ud83d"}</tool_call>', []),
    ],
    ids=[
        *("text", "call", "text and call", "two calls", "no arguments", "no json", "no name", "cut off", "cut mark"),
        *("half a character", "half a name"),
    ],
)
def test_text_and_calls_are_told_apart_however_they_come(
    text: str, shown: str, calls: list[tuple[str, object]], size: int
) -> None:
    assert read(text, size) == (shown, calls, bool(calls))


def test_every_call_has_an_id_of_its_own() -> None:
    _, calls = ToolCallReader().push(CALL + CALL)
    first, second = (call.id for call in calls)
    assert first != second
    assert first.startswith("call_")
    assert len(first) == len("call_") + 24


def can_be_written(model_directory: Path, text: str, tools: list[Tool], choice: ToolChoice) -> bool:
    vocabulary = Vocabulary(model_directory, size=TOKENIZER.get_vocab_size(), ends=frozenset([END_ID]))
    constraint = tool_constraint(tools, choice, vocabulary.literal)
    assert constraint is not None
    guide = vocabulary.guide(constraint)
    for token in [*TOKENIZER.encode(text, add_special_tokens=False).ids, END_ID]:
        if not guide.allowed()[token >> 3] >> (token & 7) & 1:
            return False
        guide.take(token)
    return True


BELL_CALL = '<tool_call>\n{"name": "bell", "arguments": {}}\n</tool_call>'


@pytest.mark.parametrize(
    ("choice", "text", "possible"),
    [
        (ToolChoice(Mode.REQUIRED), CALL, True),
        (ToolChoice(Mode.REQUIRED), f"{CALL}\n{BELL_CALL}", True),
        (ToolChoice(Mode.REQUIRED), "I do not want to.", False),
        (ToolChoice(Mode.REQUIRED), CALL.replace("true", "3"), False),
        (ToolChoice(Mode.REQUIRED), CALL.replace("lamp", "door"), False),
        (ToolChoice(function="bell"), BELL_CALL, True),
        (ToolChoice(function="bell"), CALL, False),
        (ToolChoice(), "I do not want to.", True),
        (ToolChoice(), CALL, True),
        (ToolChoice(), CALL.replace("true", "3"), False),
        (ToolChoice(), f"Here: {CALL.replace('true', '3')}", False),
        (ToolChoice(), BELL_CALL.replace("{}", '{"loud": 1}'), True),
    ],
)
def test_a_model_is_made_to_call_as_it_was_chosen(model_directory: Path, choice: ToolChoice, text: str, possible: bool) -> None:
    assert can_be_written(model_directory, text, [LAMP, BELL], choice) is possible


def test_where_everything_goes_nothing_is_enforced() -> None:
    for tools, choice in (([BELL], ToolChoice()), ([LAMP], ToolChoice(Mode.NONE)), ([], ToolChoice())):
        assert tool_constraint(tools, choice, json.dumps) is None


@pytest.mark.parametrize(
    ("tools", "choice", "fields"),
    [
        ([LAMP, BELL], ToolChoice(function="lamp"), []),
        ([Tool("")], ToolChoice(), ["tools[0].name"]),
        ([Tool("a b")], ToolChoice(), ["tools[0].name"]),
        ([BELL, BELL], ToolChoice(), ["tools[1].name"]),
        ([Tool("x", parameters="[]")], ToolChoice(), ["tools[0].parameters"]),
        ([Tool("x", parameters="{")], ToolChoice(), ["tools[0].parameters"]),
        ([Tool("x", parameters="[" * 50_000)], ToolChoice(), ["tools[0].parameters"]),
        ([BELL], ToolChoice(function="door"), ["tool_choice.function"]),
        ([BELL], ToolChoice(Mode.REQUIRED, "bell"), ["tool_choice"]),
        ([], ToolChoice(Mode.REQUIRED), ["tool_choice.mode"]),
        ([Tool(f"t{number}") for number in range(65)], ToolChoice(), ["tools"]),
    ],
    ids=[
        "good",
        "empty name",
        "spaces",
        "twice",
        "list",
        "no json",
        "too deep",
        "unknown choice",
        "both",
        "none to call",
        "too many",
    ],
)
def test_what_is_wrong_with_tools_is_named(tools: list[Tool], choice: ToolChoice, fields: list[str]) -> None:
    assert [violation.field for violation in tool_violations(tools, choice)] == fields


def test_a_call_is_written_in_the_form_the_renderer_takes() -> None:
    assert ToolCall("1", "bell", "{}").written() == {
        "id": "1",
        "type": "function",
        "function": {"name": "bell", "arguments": "{}"},
    }
