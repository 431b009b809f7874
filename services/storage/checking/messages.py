"""Messages of a conversation, one by one and as a whole; used by `row`. This is the definition of a good conversation."""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.storage.checking import suggestion
from services.storage.checking.example import ASSISTANT, SILENT
from services.storage.checking.problem import RowProblem
from services.storage.checking.quoting import kind, quoted
from services.storage.checking.tools import check_calls, spelled

ROLES = ("system", "developer", "user", "assistant", "tool")
_KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id")
_PLAIN_ROLES = ("system", "developer", "user", "assistant")
_PLAIN_KEYS = {"role", "content"}
# Answers dumped from OpenAI's API carry these; empty they say nothing.
_EMPTY_KEYS = ("refusal", "audio", "annotations", "function_call", "reasoning_content")
_ONLY_OF = {"weight": "assistant", "tool_calls": "assistant", "tool_call_id": "tool"}


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One good message."""

    kind: str
    """How it counts in a shape: its role, or SILENT."""
    content: str
    """Text; the parts of a list joined; empty when there is none."""
    calls: str = ""
    """The tool calls as JSON."""
    call_ids: Sequence[str] = ()
    """Of the tool calls."""
    answered: str = ""
    """The id of the tool call that it answers."""

    @property
    def empty(self) -> bool:
        """Says nothing at all."""
        return not self.calls and (not self.content or self.content.isspace())

    @property
    def text(self) -> str:
        """Everything it says."""
        return self.content + self.calls + self.answered


def read_messages(messages: Any, path: str) -> list[Turn]:
    """The turns of a list of messages; raises RowProblem at the first that is bad."""
    if not isinstance(messages, list):
        raise RowProblem("DATASET_MESSAGES_MISSING", path, f"is {kind(messages)}, not a list")
    if not messages:
        raise RowProblem("DATASET_MESSAGES_MISSING", path, "the list is empty")
    calls: set[str] = set()
    return [_plain_turn(message) or read_message(message, f"{path}[{index}]", calls) for index, message in enumerate(messages)]


def _plain_turn(message: Any) -> Turn | None:
    """The turn of a message of two texts, which most are; None = `read_message` has to look."""
    if type(message) is not dict or message.keys() != _PLAIN_KEYS:
        return None
    role, content = message["role"], message["content"]
    plain = role in _PLAIN_ROLES and type(content) is str and (content or role != ASSISTANT)
    return Turn(role, content) if plain else None


def check_learnable(turns: Sequence[Turn], path: str) -> None:
    """Raises RowProblem when a conversation teaches nothing, or begins with what cannot be asked for."""
    kinds = [turn.kind for turn in turns]
    if ASSISTANT not in kinds and SILENT not in kinds:
        raise RowProblem("DATASET_NO_ASSISTANT", path, "no message is of the assistant, so there is nothing to learn")
    if ASSISTANT not in kinds:
        raise RowProblem("DATASET_NOTHING_TO_LEARN", path, "every assistant message has weight 0, so there is nothing to learn")
    if kinds[0] == ASSISTANT:
        # The renderer cannot tell the first turn from the markup before it, and most chat templates refuse it.
        message = "the conversation begins with the assistant, so there is nothing the model could answer to"
        raise RowProblem("DATASET_BEGINS_WITH_ASSISTANT", f"{path}[0].role", message)


def read_message(message: Any, path: str, calls: set[str]) -> Turn:
    """The turn of one message. `calls` holds the ids of earlier tool calls; the message's own are added. Raises RowProblem."""
    if not isinstance(message, dict):
        raise RowProblem("DATASET_MESSAGE_MALFORMED", path, f"is {kind(message)}, not an object")
    role = _role(message, path)
    _check_keys(message, role, path)
    called = _calls(message, path)
    calls.update(called)
    content = _content(message, role, bool(called), path)
    weight = _weight(message, path)
    if not isinstance(message.get("name") or "", str):
        raise RowProblem("DATASET_MESSAGE_MALFORMED", f"{path}.name", f"is {kind(message['name'])}, not a text")
    answered = _answered_call(message, path, calls) if role == "tool" else ""
    said = spelled(message["tool_calls"]) if called else ""
    return Turn(role if weight else SILENT, content, said, called, answered)


def _role(message: dict[str, Any], path: str) -> str:
    if "role" not in message:
        raise RowProblem("DATASET_MESSAGE_MALFORMED", f"{path}.role", suggestion.for_missing_key("role", message))
    role = message["role"]
    if role == "function":
        raise RowProblem("DATASET_FUNCTION_CALL", f"{path}.role", "role 'function' is the old way to call tools")
    if not isinstance(role, str):
        raise RowProblem("DATASET_ROLE_UNKNOWN", f"{path}.role", f"role is {kind(role)}, not a text")
    if role not in ROLES:
        raise RowProblem("DATASET_ROLE_UNKNOWN", f"{path}.role", suggestion.for_role(role, ROLES))
    return role


def _check_keys(message: dict[str, Any], role: str, path: str) -> None:
    if message.get("function_call"):
        message_ = '"function_call" is the old way to call tools'
        raise RowProblem("DATASET_FUNCTION_CALL", f"{path}.function_call", message_)
    # A missing key is told before a key too many: the one is often the other, misspelled.
    if "content" not in message and message.get("tool_calls") is None:
        raise RowProblem("DATASET_MESSAGE_MALFORMED", f"{path}.content", suggestion.for_missing_key("content", message))
    for key, value in message.items():
        if key not in _KEYS and not (key in _EMPTY_KEYS and not value):
            raise RowProblem("DATASET_KEY_UNKNOWN", path, suggestion.for_unknown_key(key, _KEYS))
        if value is not None and _ONLY_OF.get(key, role) != role:
            message_ = f"belongs to messages of role '{_ONLY_OF[key]}', this one is of role '{role}'"
            raise RowProblem("DATASET_KEY_UNKNOWN", f"{path}.{key}", message_)


def _content(message: dict[str, Any], role: str, called: bool, path: str) -> str:
    content, path = message.get("content"), f"{path}.content"
    if content is None and called:
        return ""
    text = _joined_parts(content, path) if isinstance(content, list) else content
    if not isinstance(text, str):
        hint = "; only a message with tool calls may leave it out" if content is None else ""
        raise RowProblem("DATASET_CONTENT_INVALID", path, f"is {kind(content)}, not a text{hint}")
    if not text and role == ASSISTANT and not called:
        raise RowProblem("DATASET_CONTENT_INVALID", path, "is empty, and there are no tool calls: the model would learn silence")
    return text


def _joined_parts(parts: list[Any], path: str) -> str:
    if not parts:
        raise RowProblem("DATASET_CONTENT_INVALID", path, "is an empty list")
    return "".join(_part(part, f"{path}[{index}]") for index, part in enumerate(parts))


def _part(part: Any, path: str) -> str:
    if not isinstance(part, dict):
        raise RowProblem("DATASET_CONTENT_INVALID", path, f'is {kind(part)}, not {{"type": "text", "text": …}}')
    if part.get("type") != "text":
        what = f"a part of type {quoted(part['type'])}" if "type" in part else 'a part without "type"'
        raise RowProblem("DATASET_CONTENT_PART", f"{path}.type", f"{what} cannot be trained; only text can")
    if not isinstance(part.get("text"), str):
        raise RowProblem("DATASET_CONTENT_INVALID", f"{path}.text", f"is {kind(part.get('text'))}, not a text")
    if extra := next((key for key in part if key not in ("type", "text")), None):
        raise RowProblem("DATASET_KEY_UNKNOWN", path, suggestion.for_unknown_key(extra, ("type", "text")))
    return str(part["text"])


def _weight(message: dict[str, Any], path: str) -> int:
    weight = message.get("weight")
    if weight is None:
        return 1
    if isinstance(weight, bool) or weight not in (0, 1):
        raise RowProblem("DATASET_WEIGHT", f"{path}.weight", f"{quoted(weight)} is neither 0 nor 1")
    return int(weight)


def _calls(message: dict[str, Any], path: str) -> list[str]:
    calls = message.get("tool_calls")
    # Answers dumped from an API carry an empty list beside their content.
    none = calls is None or (calls == [] and message.get("content") is not None)
    return [] if none else check_calls(calls, f"{path}.tool_calls")


def _answered_call(message: dict[str, Any], path: str, calls: set[str]) -> str:
    answered, path = message.get("tool_call_id"), f"{path}.tool_call_id"
    if not isinstance(answered, str) or not answered:
        raise RowProblem("DATASET_TOOL_MESSAGE", path, "is missing: a tool message names the call it answers")
    if answered not in calls:
        known = f"; earlier calls are {', '.join(quoted(call) for call in sorted(calls)[:3])}" if calls else "; there was none"
        raise RowProblem("DATASET_TOOL_MESSAGE", path, f"{quoted(answered)} is no earlier tool call{known}")
    return answered
