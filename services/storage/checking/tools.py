"""Tools that a row declares, and calls of them; used by `messages`, `row` and `tool_rows`."""

import functools
import json
from typing import Any

import msgspec

from services.storage.checking.problem import RowProblem
from services.storage.checking.quoting import kind, quoted

_ENCODER = msgspec.json.Encoder(order="sorted")
_KEPT = 64
_KEPT_CHARACTERS = 2**16


def declared_tools(tools: Any, path: str) -> str:
    """The tools as JSON; raises RowProblem as `check_tools` does."""
    text = spelled(tools)
    # Most files declare the same tools in every row.
    if len(text) > _KEPT_CHARACTERS or not _are_good(text):
        check_tools(tools, path)
    return text


@functools.lru_cache(_KEPT)
def _are_good(text: str) -> bool:
    try:
        check_tools(json.loads(text), "")
    except RowProblem:
        return False
    return True


def spelled(value: Any) -> str:
    """The value as JSON; equal values are spelled equally, whatever the order of their keys."""
    return _ENCODER.encode(value).decode()


def check_tools(tools: Any, path: str) -> None:
    """Raises RowProblem (DATASET_TOOLS_INVALID) unless `tools` is a list of function declarations with distinct names."""
    if not isinstance(tools, list) or not tools:
        raise _bad_tools(path, "the list is empty" if tools == [] else f"is {kind(tools)}, not a list")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        name = _declared_name(tool, f"{path}[{index}]")
        if name in names:
            raise _bad_tools(f"{path}[{index}].function.name", f"{quoted(name)} is declared twice")
        names.add(name)


def _declared_name(tool: Any, path: str) -> str:
    function = _function_of(tool, path, "DATASET_TOOLS_INVALID")
    parameters = function.get("parameters", {})
    if not isinstance(parameters, dict):
        raise _bad_tools(f"{path}.function.parameters", f"is {kind(parameters)}, not an object (a JSON schema)")
    if not isinstance(function.get("description", ""), str):
        raise _bad_tools(f"{path}.function.description", f"is {kind(function['description'])}, not a text")
    return str(function["name"])


def check_calls(calls: Any, path: str) -> list[str]:
    """The ids of a message's tool calls; raises RowProblem (DATASET_TOOL_CALL_INVALID)."""
    if not isinstance(calls, list) or not calls:
        raise _bad_call(path, "the list is empty" if calls == [] else f"is {kind(calls)}, not a list")
    return [_check_call(call, f"{path}[{index}]") for index, call in enumerate(calls)]


def _check_call(call: Any, path: str) -> str:
    function = _function_of(call, path, "DATASET_TOOL_CALL_INVALID")
    if not isinstance(call.get("id"), str) or not call["id"]:
        raise _bad_call(f"{path}.id", f"is {kind(call['id'])}, not a text" if call.get("id") else "is missing or empty")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        why = "is missing" if arguments is None else f"is {kind(arguments)}, not a text that holds a JSON object"
        raise _bad_call(f"{path}.function.arguments", why)
    if not holds_object(arguments):
        raise _bad_call(f"{path}.function.arguments", f"{quoted(arguments)} is not the text of a JSON object")
    return str(call["id"])


def holds_object(text: str) -> bool:
    """Whether the text is a JSON object."""
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        # What is wrong to the one is not always wrong to the other: half a character, for example.
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _function_of(value: Any, path: str, reason: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RowProblem(reason, path, f"is {kind(value)}, not an object")
    if value.get("type") != "function":
        said = f"{quoted(value['type'])} is not 'function'" if "type" in value else "is missing; it is 'function'"
        raise RowProblem(reason, f"{path}.type", said)
    function = value.get("function")
    if not isinstance(function, dict):
        raise RowProblem(reason, f"{path}.function", f"is {kind(function)}, not an object")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise RowProblem(reason, f"{path}.function.name", "is missing, empty or not a text")
    return function


def _bad_tools(path: str, message: str) -> RowProblem:
    return RowProblem("DATASET_TOOLS_INVALID", path, message)


def _bad_call(path: str, message: str) -> RowProblem:
    return RowProblem("DATASET_TOOL_CALL_INVALID", path, message)
