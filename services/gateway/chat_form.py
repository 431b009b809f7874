"""What an answer may be besides free text: calls of tools, or a text of a given form; used by chat_request."""

import json
from typing import Any

from services.gateway.bodies import Body, optional, required
from services.gateway.failures import refused
from tunesmith.v1.inference_service_pb2 import ResponseFormat, Tool, ToolChoice

READ = ("tools", "tool_choice", "response_format")
_UNSUPPORTED = "UNSUPPORTED_PARAMETER"
_MODES = {"none": ToolChoice.MODE_NONE, "auto": ToolChoice.MODE_AUTO, "required": ToolChoice.MODE_REQUIRED}


def tools_of(body: Body) -> list[Tool]:
    """`tools`; raises InvalidArgument naming the place."""
    return [_tool(tool, f"tools[{index}].") for index, tool in enumerate(optional(body, "tools", list) or [])]


def tool_choice_of(body: Body) -> ToolChoice | None:
    """`tool_choice`; None when it is not said, or there is nothing to choose. Raises InvalidArgument."""
    given = body.get("tool_choice")
    if not body.get("tools") and given in (None, "none", "auto"):
        return None
    if not body.get("tools"):
        raise refused("tool_choice", "there are no tools")
    if given is None:
        return None
    if isinstance(given, str) and given in _MODES:
        return ToolChoice(mode=_MODES[given])
    if isinstance(given, dict) and given.get("type") == "function":
        function = required(given, "function", dict, "tool_choice.")
        return ToolChoice(function=required(function, "name", str, "tool_choice.function."))
    raise refused("tool_choice", f"is none of {', '.join(_MODES)} and no function", reason=_UNSUPPORTED)


def response_format_of(body: Body) -> ResponseFormat | None:
    """`response_format`; None for free text. Raises InvalidArgument."""
    given = optional(body, "response_format", dict) or {}
    kind = optional(given, "type", str, "response_format.") or "text"
    if kind == "text":
        return None
    if kind == "json_object":
        form = ResponseFormat()
        form.json_object.SetInParent()
        return form
    if kind == "json_schema":
        described = required(given, "json_schema", dict, "response_format.")
        return ResponseFormat(json_schema=json.dumps(required(described, "schema", dict, "response_format.json_schema.")))
    raise refused("response_format.type", f"{kind[:40]!r} is none of text, json_object, json_schema", reason=_UNSUPPORTED)


def _tool(tool: Any, path: str) -> Tool:
    if not isinstance(tool, dict):
        raise refused(path.rstrip("."), "is not an object")
    if tool.get("type") != "function":
        raise refused(path + "type", "only functions are supported", reason=_UNSUPPORTED)
    function = required(tool, "function", dict, path)
    path += "function."
    parameters = optional(function, "parameters", dict, path)
    return Tool(
        name=required(function, "name", str, path),
        description=optional(function, "description", str, path) or "",
        parameters=json.dumps(parameters) if parameters else "",
        strict=bool(optional(function, "strict", bool, path)),
    )
