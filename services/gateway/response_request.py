"""POST /v1/responses as the body of a chat; what is refused is named as the caller of responses named it."""

import re
from collections.abc import Mapping
from typing import Any

from services.common.errors import InvalidArgument, Violation
from services.gateway import chat_request
from services.gateway.bodies import Body, optional, required
from services.gateway.failures import refused
from services.gateway.unsupported import refuse_present
from tunesmith.v1.inference_service_pb2 import StreamChatRequest

REFUSED = {
    "background": "is not supported; POST /v1/batches answers in the background",
    "context_management": "is not supported",
    "conversation": "is not supported: nothing is kept; send the whole conversation as input",
    "include": "is not supported",
    "max_tool_calls": "is not supported: there are no tools",
    "previous_response_id": "is not supported: nothing is kept; send the whole conversation as input",
    "prompt": "is not supported; send the text as input",
    "tools": "is not supported; use /v1/chat/completions, which calls functions",
    "top_logprobs": "is not supported; use /v1/chat/completions",
}
_SAME = ("model", "temperature", "top_p", "tool_choice")
"""Chats have them under the same name."""
_READ = (*_SAME, "input", "instructions", "max_output_tokens", "text", "stream", "metadata")
_CHECKED = ("store", "truncation")
_TEXT_PARTS = ("input_text", "output_text")
_UNSUPPORTED = "UNSUPPORTED_PARAMETER"
_MESSAGE = re.compile(r"messages\[(\d+)\]")
_NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "messages": "input",
}
"""Longer names come first."""


def question(body: Body) -> StreamChatRequest:
    """What is asked, `model` as the caller names it; raises InvalidArgument naming the parameter that cannot be answered."""
    refuse_present(body, REFUSED)
    if body.get("truncation") not in (None, "disabled"):
        raise refused("truncation", "is not supported: a conversation that is too long is refused", reason=_UNSUPPORTED)
    optional(body, "store", bool)
    instructions = optional(body, "instructions", str)
    before = [{"role": "system", "content": instructions}] if instructions else []
    chat = {name: body[name] for name in _SAME if name in body}
    chat |= {"messages": [*before, *_turns(body)], "max_completion_tokens": body.get("max_output_tokens")}
    chat["response_format"] = _chat_format(text_format(body))
    try:
        return chat_request.question(chat)
    except InvalidArgument as error:
        told = [Violation(_named(each.field, len(before)), each.description) for each in error.violations]
        raise InvalidArgument(*told, reason=error.reason) from None


def text_format(body: Body) -> dict[str, Any]:
    """`text.format`, which says what the answer looks like; free text when it is not said."""
    text = optional(body, "text", dict) or {}
    return optional(text, "format", dict, "text.") or {"type": "text"}


def ignored(body: Body) -> list[str]:
    """Parameters that change nothing here; they are told in a header."""
    return sorted(set(body) - {*_READ, *_CHECKED, *REFUSED})


def _turns(body: Body) -> list[Any]:
    given = body.get("input")
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}]
    return [_turn(item, f"input[{index}].") for index, item in enumerate(required(body, "input", list))]


def _turn(item: Any, path: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise refused(path.rstrip("."), "is not an object")
    if (kind := item.get("type", "message")) != "message":
        raise refused(path + "type", f"{str(kind)[:40]!r} is not supported; an item is a message", reason=_UNSUPPORTED)
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part, f"{path}content[{number}].") for number, part in enumerate(content)]
    return {"role": item.get("role"), "content": content}


def _part(part: Any, path: str) -> dict[str, Any]:
    if not isinstance(part, dict) or part.get("type") not in _TEXT_PARTS:
        raise refused(path + "type", f"only parts of type {' and '.join(_TEXT_PARTS)} are supported", reason=_UNSUPPORTED)
    return {"type": "text", "text": required(part, "text", str, path)}


def _chat_format(given: Mapping[str, Any]) -> dict[str, Any]:
    """Chats have what describes a schema one level deeper."""
    described = {name: value for name, value in given.items() if name != "type"}
    return {"type": given.get("type"), **({"json_schema": described} if described else {})}


def _named(field: str, before: int) -> str:
    """The name of a chat's field in responses; `before` is the number of messages that no item of the input stands for."""
    field = _MESSAGE.sub(lambda match: f"messages[{int(match[1]) - before}]", field)
    for chat, response in _NAMES.items():
        if field.startswith(chat):
            return response + field.removeprefix(chat)
    return field
