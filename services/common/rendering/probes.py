"""What a chat template knows, found out by trying it; used by the renderer.

The text of a template tells little: one may mention tools only to refuse them. What it does with them tells all.
"""

from collections.abc import Callable, Sequence
from typing import Any

from services.common.rendering.conversation import Message, Tool
from services.common.rendering.error import RenderError

Render = Callable[[Sequence[Message], Sequence[Tool] | None], str]

EXCHANGE: tuple[Message, ...] = (
    {"role": "user", "content": "Is the kettle on?"},
    {"role": "assistant", "content": "Yes, since noon."},
)
TWO_EXCHANGES: tuple[Message, ...] = (
    *EXCHANGE,
    {"role": "user", "content": "Thanks, and the lamp?"},
    {"role": "assistant", "content": '{"lamp": "off"}'},
)
_NOBODY = "zqxv_nobody"
_FUNCTION = "zqxv_function"
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": _FUNCTION,
        "description": "Switches.",
        "parameters": {
            "type": "object",
            "properties": {"lamp": {"type": "string", "description": "Which."}},
            "required": ["lamp"],
        },
    },
}
_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": _FUNCTION, "arguments": {"lamp": "hall"}}}],
}


def knows_role(render: Render, role: str) -> bool:
    """Whether the role is treated unlike one that nobody knows."""

    def outcome(name: str) -> str:
        try:
            text = render(({"role": name, "content": "Be brief."}, *EXCHANGE), None)
        except RenderError:
            return "refused"
        return text.replace(name, "")

    return outcome(role) != outcome(_NOBODY)


def writes_tools(render: Render) -> bool:
    """Whether a declared tool is in the text."""
    return _has_function(render, EXCHANGE, [_TOOL])


def writes_tool_calls(render: Render) -> bool:
    """Whether a call is in the text, with tools declared or not."""
    called = (EXCHANGE[0], _CALL)
    if _has_function(render, called, None):
        return True
    # Some templates take calls only beside declared tools, whose names are then in the text anyway.
    other: dict[str, Any] = {**_TOOL, "function": {**_TOOL["function"], "name": "zqxv_other"}}
    return _has_function(render, called, [other])


def _has_function(render: Render, messages: Sequence[Message], tools: Sequence[Tool] | None) -> bool:
    try:
        return _FUNCTION in render(messages, tools)
    except RenderError:
        return False
