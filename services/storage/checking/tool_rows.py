"""The fast path for chat rows with tools, calls and parts; used by `block_reader`.

It takes only what `row` takes and makes the same of it. Shapes are checked in C while rows are decoded; that no key was given
twice follows from the double quotes: rows that are written again have as many as before.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.storage.checking.conversations import count_chats
from services.storage.checking.doubt import Doubt, require
from services.storage.checking.example import ASSISTANT, SILENT, TURN_SEPARATOR, Batch, Example, Format, batch_of
from services.storage.checking.further_keys import Keys, further_of, open_to
from services.storage.checking.json_text import MAX_DEPTH, parse
from services.storage.checking.problem import RowProblem
from services.storage.checking.tools import declared_tools, holds_object, spelled
from services.storage.checking.trusted_json import fits, quotes

_Filled = Annotated[str, msgspec.Meta(min_length=1)]
_Nothing = None | UnsetType
_ENCODER = msgspec.json.Encoder()
_TAKEN = msgspec.Raw(b"0")
_KEPT = 64
_KEPT_BYTES = 2**16
_Turn = tuple[str, str, int, bool]
"""How it counts in a shape, everything it says, characters that are learned, and whether it says nothing."""


class _Function(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: _Filled
    arguments: str


class _Call(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: _Filled
    type: Literal["function"]
    function: _Function


class _Part(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[_Part], msgspec.Meta(min_length=1)] | _Nothing = UNSET
    weight: Literal[0, 1] | _Nothing = UNSET
    name: str | _Nothing = UNSET
    tool_calls: list[_Call] | _Nothing = UNSET
    tool_call_id: _Filled | _Nothing = UNSET
    # Answers dumped from OpenAI's API carry these.
    refusal: _Nothing = UNSET
    audio: _Nothing = UNSET
    function_call: _Nothing = UNSET
    annotations: Annotated[list[Any], msgspec.Meta(max_length=0)] | _Nothing = UNSET


class _Row(msgspec.Struct, gc=False):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    tools: msgspec.Raw | UnsetType = UNSET
    parallel_tool_calls: bool | _Nothing = UNSET


def read_tool_rows(text: bytes, further: Keys = ()) -> Batch | None:
    """The batch of rows when all of them are good chat rows with no other keys than `further`, else None.

    `text` holds one row a line, each of which begins with { and ends with }.
    """
    try:
        rows = _decoder(further).decode_lines(text)
        require(len(rows) == text.count(b"\n") + 1)
        ignored, _ = further_of(rows, further, Format.CHAT)
        tools = [_take_tools(row) for row in rows]
        quoted = quotes(_ENCODER.encode_lines(rows)) + sum([quoted for _, quoted in tools])
        require(0 <= quotes(text) == quoted)
        batch = _without_tools(rows) or batch_of([_example(row, said) for row, (said, _) in zip(rows, tools, strict=True)])
    except (msgspec.MsgspecError, UnicodeError, Doubt, RowProblem):
        return None
    return msgspec.structs.replace(batch, ignored_keys=ignored) if ignored else batch


@functools.lru_cache
def _decoder(further: Keys) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(open_to(_Row, further))


def _without_tools(rows: Sequence[_Row]) -> Batch | None:
    """The batch of rows of which none declares or calls tools, else None."""
    messages = list(itertools.chain.from_iterable([row.messages for row in rows]))
    if [1 for row in rows if row.tools is not UNSET] or [1 for message in messages if _is_special(message)]:
        return None
    for message in messages:
        if type(message.content) is list:
            message.content = _content(message)
    require(not [1 for message in messages if type(message.content) is not str])
    return count_chats([row.messages for row in rows])


def _is_special(message: _Message) -> bool:
    """Whether it has to do with tools, or has a weight that is none."""
    given = message.tool_calls is not UNSET or message.tool_call_id is not UNSET
    return given or message.role == "tool" or message.weight is None


def _example(row: _Row, tools: str) -> Example:
    calls: set[str] = set()
    kinds, said, learned, empty = zip(*[_plain_turn(one) or _turn(one, calls) for one in row.messages], strict=True)
    require(ASSISTANT in kinds and kinds[0] != ASSISTANT)
    if tools:
        said += (tools,)
    text, ending = TURN_SEPARATOR.join(said), _content(row.messages[-1])
    return Example(Format.CHAT, kinds, text, ending, sum(empty), sum(learned), bool(tools or calls))


def _plain_turn(message: _Message) -> _Turn | None:
    content, role = message.content, message.role
    if message.tool_calls is not UNSET or message.weight is not UNSET or message.tool_call_id is not UNSET or role == "tool":
        return None
    if type(content) is list:
        content = "".join([part.text for part in content])
    if type(content) is not str or not content:
        return None
    return role, content, len(content) if role == ASSISTANT else 0, content.isspace()


def _turn(message: _Message, calls: set[str]) -> _Turn:
    content, called, answered = _content(message), _called(message, calls), _answered(message, calls)
    silent = _is_silent(message, content, called)
    learned = len(content) + len(called) if message.role == ASSISTANT and not silent else 0
    empty = not called and (not content or content.isspace())
    return SILENT if silent else message.role, content + called + answered, learned, empty


def _content(message: _Message) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join([part.text for part in content])
    require(bool(message.tool_calls))
    return ""


def _answered(message: _Message, calls: set[str]) -> str:
    answered = message.tool_call_id or ""
    require(answered in calls if message.role == "tool" else not answered)
    return answered


def _called(message: _Message, calls: set[str]) -> str:
    made = message.tool_calls
    if not made:
        # Answers dumped from an API carry an empty list beside their content.
        require(made is UNSET or made is None or message.role == ASSISTANT)
        return ""
    require(message.role == ASSISTANT)
    for call in made:
        require(holds_object(call.function.arguments))
        calls.add(call.id)
    return spelled(made)


def _is_silent(message: _Message, content: str, called: str) -> bool:
    if message.role != ASSISTANT:
        require(message.weight is UNSET or message.weight is None)
        return False
    require(bool(content or called))
    return message.weight == 0


def _take_tools(row: _Row) -> tuple[str, int]:
    """The tools of a row as JSON, empty when there are none, and their double quotes; raises Doubt or RowProblem.

    The row is left with a value in their place, which takes less time to write.
    """
    if row.tools is UNSET:
        return "", 0
    # Most files declare the same tools in every row.
    text = bytes(row.tools)
    row.tools = _TAKEN
    return _read_tools(text) if len(text) <= _KEPT_BYTES else _read_tools.__wrapped__(text)


@functools.lru_cache(_KEPT)
def _read_tools(text: bytes) -> tuple[str, int]:
    tools, quoted = parse(text), quotes(text)
    require(quoted >= 0 and fits(tools, MAX_DEPTH - 1))
    return "" if tools is None else declared_tools(tools, "tools"), quoted
