"""ShareGPT rows: a conversation of turns with `from` and `value`."""

from typing import Any

from tunesmith.convert.records import Row, Unconvertible, chat, optional_text

_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "system": "system",
}


def recognises(row: Row) -> bool:
    """The row has conversations."""
    return "conversations" in row or "conversation" in row


def to_chat(row: Row) -> dict[str, Any]:
    """Every turn becomes a message; the row's own system text comes first."""
    turns = row.get("conversations", row.get("conversation"))
    if not isinstance(turns, list) or not turns:
        raise Unconvertible("conversations is not a list of turns")
    messages = [_turn(number, turn) for number, turn in enumerate(turns)]
    if all(role != "assistant" for role, _ in messages):
        raise Unconvertible("no turn is the assistant's")
    system = optional_text(row, "system")
    return chat(*([("system", system)] if system and messages[0][0] != "system" else []), *messages)


def _turn(number: int, turn: Any) -> tuple[str, str]:
    place = f"conversations[{number}]"
    if not isinstance(turn, dict):
        raise Unconvertible(f"{place} is not an object")
    speaker = turn.get("from", turn.get("role"))
    role = _ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        raise Unconvertible(f"{place}: there is no role for {speaker!r}")
    content = turn.get("value", turn.get("content"))
    if not isinstance(content, str) or not content.strip():
        raise Unconvertible(f"{place} has no text")
    return role, content
