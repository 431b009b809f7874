"""Prompt and completion, as texts or as messages: TRL's form, and the one of OpenAI's first fine-tuning."""

from typing import Any

from tunesmith.convert.records import Message, Row, Unconvertible, text_of


def recognises(row: Row) -> bool:
    """The row has both."""
    return "prompt" in row and "completion" in row


def to_chat(row: Row) -> dict[str, Any]:
    """The prompt is the user's, the completion the assistant's; both stay as they are, blanks included."""
    return {"messages": [*as_messages(row, "prompt", "user"), *as_messages(row, "completion", "assistant")]}


def to_text(row: Row) -> dict[str, Any]:
    """One after the other, for continued pre-training."""
    return {"text": text_of(row, "prompt") + text_of(row, "completion")}


def as_messages(row: Row, column: str, role: str) -> list[Message]:
    """A column that is a text of `role`, or messages already.

    Raises:
        Unconvertible: it is neither.
    """
    value = row.get(column)
    if not isinstance(value, list):
        return [{"role": role, "content": text_of(row, column)}]
    if not value or not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value):
        raise Unconvertible(f"{column} is not a list of messages")
    return value
