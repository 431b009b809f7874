"""The fast path for chat rows with tools, calls, parts and other keys; used by `block_reader`.

Their JSON is known to be good. It takes only what `row` takes and makes the same of it; the shapes are checked in C while the
rows are decoded a second time, which leaves little to do for each message.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from services.storage.checking.doubt import Doubt, require
from services.storage.checking.example import ASSISTANT, SILENT, TURN_SEPARATOR, Example, Format
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import ignored_in
from services.storage.checking.tools import declared_tools, holds_object, spelled

_Filled = Annotated[str, msgspec.Meta(min_length=1)]


class _Function(msgspec.Struct, gc=False):
    name: _Filled
    arguments: str


class _Call(msgspec.Struct, gc=False):
    id: _Filled
    type: Literal["function"]
    function: _Function


class _Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[_Part], msgspec.Meta(min_length=1)] | None = None
    weight: Literal[0, 1] | None = None
    name: str | None = None
    tool_calls: Annotated[list[_Call], msgspec.Meta(min_length=1)] | None = None
    tool_call_id: _Filled | None = None
    # Answers dumped from OpenAI's API carry these.
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


class _Row(msgspec.Struct, gc=False):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    parallel_tool_calls: bool | None = None


_DECODER = msgspec.json.Decoder(_Row)


def read_tool_rows(values: Sequence[dict[str, Any]], text: bytes) -> list[Example] | None:
    """The rows when all of them are good chat rows, else None.

    `values` are those of the rows, of which `text` holds one a line.
    """
    try:
        ignored = ignored_in(values, Format.CHAT)
        return [_example(*row) for row in zip(_DECODER.decode_lines(text), values, ignored, strict=True)]
    except (msgspec.DecodeError, Doubt, RowProblem):
        return None


def _example(row: _Row, value: dict[str, Any], ignored: tuple[str, ...]) -> Example:
    kinds: list[str] = []
    parts: list[str] = []
    learned = empty = 0
    calls: set[str] = set()
    for index, message in enumerate(row.messages):
        content, answered = _content(message), _answered(message, calls)
        called = _called(message, value["messages"][index], calls)
        silent = _is_silent(message, content, called)
        if message.role == ASSISTANT and not silent:
            learned += len(content) + len(called)
        empty += not called and (not content or content.isspace())
        kinds.append(SILENT if silent else message.role)
        parts.append(content + called + answered)
    require(ASSISTANT in kinds and kinds[0] != ASSISTANT)
    tools = value.get("tools")
    if tools is not None:
        parts.append(declared_tools(tools, "tools"))
    used = tools is not None or bool(calls)
    return Example(Format.CHAT, tuple(kinds), TURN_SEPARATOR.join(parts), content, empty, learned, used, ignored)


def _content(message: _Message) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if content is None:
        require(message.tool_calls is not None)
        return ""
    return "".join([part.text for part in content])


def _answered(message: _Message, calls: set[str]) -> str:
    if message.role != "tool":
        require(message.tool_call_id is None)
        return ""
    require(message.tool_call_id in calls)
    return message.tool_call_id or ""


def _called(message: _Message, value: dict[str, Any], calls: set[str]) -> str:
    if message.tool_calls is None:
        return ""
    require(message.role == ASSISTANT)
    for call in message.tool_calls:
        require(holds_object(call.function.arguments))
        calls.add(call.id)
    return spelled(value["tool_calls"])


def _is_silent(message: _Message, content: str, called: str) -> bool:
    if message.role != ASSISTANT:
        require(message.weight is None)
        return False
    require(bool(content or called))
    return message.weight == 0
