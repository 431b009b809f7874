"""Turns of conversations in OpenAI's form, and what they say as the one text that answers are compared by."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.encodable import encodable
from services.common.grading.words import json_value

Turn = Mapping[str, Any]
"""`role`, `content` (a text) and, when they are there, `tool_calls`, `tool_call_id` and `name`."""
Tool = Mapping[str, Any]
"""As a row declares it: `type`, and `function` with `name`, `description` and `parameters`."""
Call = Mapping[str, Any]
"""As `tool_calls` of a turn holds it: `id`, `type`, and `function` with `name` and the JSON text `arguments`."""


def said(text: str, calls: Sequence[Call] = ()) -> str:
    """The text; behind it, or instead of one that is empty, all calls as one JSON list of `{"arguments": {…}, "name": …}`.

    What names a call within its conversation, spaces and the order of keys say nothing and are left out.
    """
    if not calls:
        return text
    told = encodable(json.dumps([_called(call["function"]) for call in calls], sort_keys=True, ensure_ascii=False))
    return f"{text.strip()}\n{told}" if text.strip() else told


def said_by(turn: Turn) -> str:
    """The same of a turn."""
    return said(turn["content"], turn.get("tool_calls", ()))


def answering_turn(text: str, calls: Sequence[Call] = ()) -> Turn:
    """What an assistant says, as a row of a dataset has it: only a turn that calls tools may be without a text."""
    return {"role": "assistant", "content": text or None, "tool_calls": list(calls)} if calls else spoken("assistant", text)


def spoken(role: str, text: str) -> Turn:
    """A turn that is a text and nothing else."""
    return {"role": role, "content": text}


def are_calls(value: object) -> bool:
    """Whether it is a list of calls, from wherever it comes."""
    return isinstance(value, list) and all(map(_is_call, value))


def _is_call(value: object) -> bool:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return False
    arguments = function.get("arguments")
    return isinstance(arguments, str) and isinstance(json_value(arguments), dict)


def _called(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments: Any = function["arguments"]
    # What cannot be read, or is nested too deeply for that, is compared as it is written.
    with contextlib.suppress(ValueError, RecursionError):
        arguments = json.loads(arguments or "{}")
    return {"name": function["name"], "arguments": arguments}
