"""Messages in OpenAI's form to what chat templates take; used by the renderer.

Templates are written for the dicts that transformers documents, which differ from OpenAI's in small things that break them:

- `content` is a text: parts of type text are joined with nothing between them, null (an assistant that only calls tools) is "".
- `function.arguments` is an object, not JSON in a text; the template decides how it is written.
- a tool has `name`, `description` and `parameters` and nothing else; OpenAI's may lack the last two, and have `strict`, which is
  for who enforces it. So a tool looks the same whether a row of a dataset declares it or a request of a chat.
- a tool's turn has the name of the tool that it answers for, which OpenAI's leaves to its `tool_call_id`.
- `weight` is ours and is left out; everything else (`name`, `tool_call_id`, …) is passed on.
- the role `developer` is what OpenAI now calls `system`. It stays where the template treats it unlike a role nobody knows, see
  `Renderer.knows_developer`, and is called `system` elsewhere: a template that prints any role it is given would otherwise show
  the model a word it has never seen in that place.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.common.rendering.error import RenderError, unusable_row

Message = Mapping[str, Any]
Tool = Mapping[str, Any]
Dicts = list[dict[str, Any]]

_PLAIN_KEYS = frozenset(("role", "content"))
_BARE_MESSAGE_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a template is given, and which of the messages the model learns to write."""

    messages: Dicts
    tools: Dicts | None
    answers: tuple[int, ...]
    """Indices of the assistant's messages that carry loss."""
    character_count: int
    """Roughly, for the limits of the template."""

    @property
    def calls_tools(self) -> bool:
        """Whether some message holds tool calls."""
        return any(message.get("tool_calls") for message in self.messages)

    def first(self, count: int) -> "Conversation":
        """Its first `count` messages."""
        return Conversation(self.messages[:count], self.tools, (), self.character_count)

    def map_texts(self, change: Callable[[str], str]) -> "Conversation":
        """The same with every text in it changed, roles left alone."""
        messages = [
            {key: value if key == "role" else map_texts(value, change) for key, value in message.items()}
            for message in self.messages
        ]
        return Conversation(messages, map_texts(self.tools, change), self.answers, self.character_count)

    def has_text(self, test: Callable[[str], object]) -> bool:
        """Whether some text in it passes the test."""
        return any(test(text) for message in self.messages for text in _texts(message)) or any(map(test, _texts(self.tools)))


def conversation(messages: Sequence[Message], tools: Sequence[Tool] | None, *, developer: str) -> Conversation:
    """`developer`: the role that stands for it. Raises RenderError (DATASET_UNUSABLE) for messages no template can take."""
    names = _names(messages)
    taken = [_taken(message, index, developer, names) for index, message in enumerate(messages)]
    answers = tuple(
        index for index, message in enumerate(messages) if message.get("role") == "assistant" and message.get("weight", 1) != 0
    )
    count = sum(len(message["content"]) + _BARE_MESSAGE_CHARACTERS for message in taken)
    count += sum(len(json.dumps(message["tool_calls"])) for message in taken if message.get("tool_calls"))
    listed = [_declared(tool, f"tools[{index}]") for index, tool in enumerate(tools)] if tools else None
    return Conversation(taken, listed, answers, count + (len(json.dumps(listed)) if listed else 0))


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with every text in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [map_texts(item, change) for item in value]
    return value


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *_texts(item))]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _names(messages: Sequence[Message]) -> dict[str, Any]:
    """Of the tools that are called, by the id of the call."""
    calls = [call for message in messages for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
    return {str(call.get("id", "")): _function(call).get("name") for call in calls}


def _taken(message: Message, index: int, developer: str, names: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if message.keys() == _PLAIN_KEYS and isinstance(content, str) and message["role"] != "developer":
        return dict(message)
    taken = {key: value for key, value in message.items() if key != "weight"}
    taken["content"] = content if isinstance(content, str) else _joined(content, f"messages[{index}].content")
    if message.get("role") == "developer":
        taken["role"] = developer
    if calls := message.get("tool_calls"):
        taken["tool_calls"] = [_call(call, f"messages[{index}].tool_calls[{number}]") for number, call in enumerate(calls)]
    if message.get("role") == "tool" and not message.get("name") and (name := names.get(str(message.get("tool_call_id", "")))):
        taken["name"] = name
    return taken


def _joined(content: Any, path: str) -> str:
    parts = content if isinstance(content, list) else [] if content is None else [content]
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise unusable_row(f"{path}: only texts and parts of type text can be rendered")
    return "".join(map(str, texts))


def _call(call: Any, path: str) -> dict[str, Any]:
    if not (function := _function(call)):
        raise unusable_row(f'{path}: a tool call needs "function"')
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments", {}), path)}}


def _declared(tool: Any, path: str) -> dict[str, Any]:
    if not (function := _function(tool)):
        raise unusable_row(f'{path}: a tool needs "function"')
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    told = {"name": function.get("name", ""), "description": function.get("description") or "", "parameters": parameters}
    return {"type": "function", "function": told}


def _function(value: Any) -> Mapping[str, Any]:
    """Of a tool or a call; empty = there is none."""
    function = value.get("function") if isinstance(value, Mapping) else None
    return function if isinstance(function, Mapping) else {}


def _arguments(arguments: Any, path: str) -> dict[str, Any]:
    try:
        value = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        raise _bad_arguments(path) from error
    if not isinstance(value, dict):
        raise _bad_arguments(path)
    return value


def _bad_arguments(path: str) -> RenderError:
    return unusable_row(f"{path}.function.arguments is not a JSON object")
