"""Tool calls in the text of a model, written as Qwen, Hermes and many others do: `<tool_call>` JSON `</tool_call>`.

Which marks a model uses is its template's choice; one that writes calls in another way is refused, because what it writes would
pass for an answer.
"""

import json
import secrets
import string
from collections.abc import Callable, Iterator, Sequence

from services.common.encodable import encodable
from services.common.rendering import Renderer, RenderError
from services.inference.guides import WHITE_SPACE, Constraint, Language
from services.inference.text_stream import overlap
from services.inference.tools import Mode, Tool, ToolCall, ToolChoice, json_object

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_LETTERS = string.ascii_letters + string.digits
_PROBE = ToolCall("call_probe", "zqxv_function", '{"lamp": "hall"}')


def speaks_tools(renderer: Renderer) -> bool:
    """Whether the template shows tools to the model and writes calls in a way that can be read back here."""
    tool = Tool(_PROBE.name, "Switches.", '{"type": "object", "properties": {"lamp": {"type": "string"}}}')
    call = {"role": "assistant", "content": "", "tool_calls": [_PROBE.written()]}
    try:
        if not (renderer.writes_tools and renderer.writes_tool_calls):
            return False
        text = renderer.render_prompt([{"role": "user", "content": "Light?"}, call], [tool.declared()]).text
    except RenderError:
        return False
    written = text.rpartition(OPEN)[2].partition(CLOSE)[0]
    found = _parsed(written)
    return found is not None and (found.name, json_object(found.arguments)) == (_PROBE.name, json_object(_PROBE.arguments))


class ToolCallReader:
    """Splits what a model writes into text and calls while it comes. A call that is no JSON as agreed stays text."""

    def __init__(self) -> None:
        self._held = ""
        self._is_inside = False
        self.has_called = False

    def push(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """What is certain now: the text to show, and whole calls."""
        self._held += text
        shown, calls = "", []
        for piece in self._pieces():
            if isinstance(piece, ToolCall):
                calls.append(piece)
            else:
                shown += piece
        self.has_called = self.has_called or bool(calls)
        # Between calls there are line breaks that mean nothing.
        return "" if self.has_called and not shown.strip() else shown, tuple(calls)

    def flush(self) -> str:
        """What was held back: the beginning of a call that never ended is text."""
        rest = OPEN + self._held if self._is_inside else self._held
        self._held, self._is_inside = "", False
        return "" if self.has_called and not rest.strip() else rest

    def _pieces(self) -> Iterator[str | ToolCall]:
        while True:
            mark = CLOSE if self._is_inside else OPEN
            before, found, behind = self._held.partition(mark)
            if not found:
                break
            yield (_parsed(before) or f"{OPEN}{before}{CLOSE}") if self._is_inside else before
            self._held, self._is_inside = behind, not self._is_inside
        if not self._is_inside:
            cut = len(self._held) - overlap(self._held, OPEN)
            yield self._held[:cut]
            self._held = self._held[cut:]


def tool_constraint(tools: Sequence[Tool], choice: ToolChoice, literal: Callable[[str], str]) -> Constraint | None:
    """What an answer has to look like when a call is a must, or when tools are strict; None = anything goes.

    `literal` writes a text as a terminal of the grammar, which may be one special token.
    """
    callable_ = [tool for tool in tools if choice.function in ("", tool.name)]
    is_must = bool(choice.function) or choice.mode is Mode.REQUIRED
    if choice.mode is Mode.NONE or not (is_must or any(tool.strict for tool in callable_)):
        return None
    schemas = [_call_schema(tool, exact=tool.strict or is_must) for tool in callable_]
    schema = json.dumps({"anyOf": schemas, "x-guidance": {"whitespace_pattern": WHITE_SPACE}})
    lines = [
        "start: calls" if is_must else "start: calls | TEXT",
        # One call when it is named, else any number.
        "calls: call" if choice.function else "calls: call (/\\n/ call)*",
        f'call: {literal(OPEN)} "\\n" body "\\n" {literal(CLOSE)}',
        f"body: %json {schema}",
        # Text that is no call has no mark in it either, which would let one in unseen.
        "TEXT: /[^<](.|\\n)*/ & ~/(.|\\n)*<tool_call>(.|\\n)*/",
    ]
    return Constraint(Language.LARK, "\n".join(lines if not is_must else lines[:-1]), "tools")


def _call_schema(tool: Tool, *, exact: bool) -> dict[str, object]:
    arguments = tool.schema if exact else {"type": "object"}
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _parsed(text: str) -> ToolCall | None:
    try:
        call = json_object(text)
    except ValueError:
        return None
    name, arguments = call.get("name"), call.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict) or encodable(name) != name:
        return None
    return ToolCall(_new_id(), name, encodable(json.dumps(arguments, ensure_ascii=False)))


def _new_id() -> str:
    return "call_" + "".join(secrets.choice(_LETTERS) for _ in range(24))
