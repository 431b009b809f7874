"""The conversation of a chat: roles, parts, tool calls and what came of them; used by chat_request."""

from typing import Any

from services.gateway.bodies import optional, required
from services.gateway.failures import refused
from tunesmith.v1.inference_service_pb2 import ChatMessage, ToolCall

_ROLES = {"developer": "system"}
_UNSUPPORTED = "UNSUPPORTED_PARAMETER"


def message_of(message: Any, index: int) -> ChatMessage:
    """One turn; raises InvalidArgument naming the place within `messages`."""
    path = f"messages[{index}]."
    if not isinstance(message, dict):
        raise refused(path.rstrip("."), "is not an object")
    if message.get("function_call"):
        raise refused(path + "function_call", "is the old form; use tool_calls", reason=_UNSUPPORTED)
    role = required(message, "role", str, path)
    calls = _tool_calls(message, path)
    return ChatMessage(
        role=_ROLES.get(role, role),
        content="" if calls and message.get("content") is None else _content(message.get("content"), path),
        tool_calls=calls,
        tool_call_id=optional(message, "tool_call_id", str, path) or "",
        # Names of other speakers have no place in a chat template.
        name=(optional(message, "name", str, path) or "") if role == "tool" else "",
    )


def _content(content: Any, path: str) -> str:
    """A text, or the texts of its parts one after the other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise refused(path + "content", "is neither a string nor an array of parts")
    return "".join(_part(part, f"{path}content[{number}].") for number, part in enumerate(content))


def _part(part: Any, path: str) -> str:
    if not isinstance(part, dict) or part.get("type") != "text":
        raise refused(path + "type", "only parts of type text are supported", reason=_UNSUPPORTED)
    return optional(part, "text", str, path) or ""


def _tool_calls(message: dict[str, Any], path: str) -> list[ToolCall]:
    given = optional(message, "tool_calls", list, path) or []
    return [_tool_call(call, f"{path}tool_calls[{number}].") for number, call in enumerate(given)]


def _tool_call(call: Any, path: str) -> ToolCall:
    if not isinstance(call, dict):
        raise refused(path.rstrip("."), "is not an object")
    function = required(call, "function", dict, path)
    path += "function."
    return ToolCall(
        id=optional(call, "id", str) or "",
        name=required(function, "name", str, path),
        arguments=optional(function, "arguments", str, path) or "{}",
    )
