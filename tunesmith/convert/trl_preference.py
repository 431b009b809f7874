"""TRL's preference rows: chosen and rejected, with the prompt apart or as their common beginning."""

from typing import Any

from tunesmith.convert.prompt_completion import as_messages
from tunesmith.convert.records import Message, Row, Unconvertible


def recognises(row: Row) -> bool:
    """The row has both answers."""
    return "chosen" in row and "rejected" in row


def to_preference(row: Row) -> dict[str, Any]:
    """OpenAI's form: what both answers share is the input."""
    shared, chosen, rejected = _split(row)
    return {"input": {"messages": shared}, "preferred_output": chosen, "non_preferred_output": rejected}


def to_chat(row: Row) -> dict[str, Any]:
    """Only the chosen answer, for supervised fine-tuning."""
    shared, chosen, _ = _split(row)
    return {"messages": [*shared, *chosen]}


def _split(row: Row) -> tuple[list[Message], list[Message], list[Message]]:
    prompt = as_messages(row, "prompt", "user") if row.get("prompt") else []
    chosen, rejected = as_messages(row, "chosen", "assistant"), as_messages(row, "rejected", "assistant")
    shared = _common_length(chosen, rejected)
    if chosen[:shared][: len(prompt)] != prompt:  # the answers do not repeat the prompt
        chosen, rejected = prompt + chosen, prompt + rejected
        shared = _common_length(chosen, rejected)
    if not shared:
        raise Unconvertible("there is no prompt, and chosen and rejected begin differently")
    if shared in (len(chosen), len(rejected)):
        raise Unconvertible("chosen and rejected do not differ")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _common_length(one: list[Message], other: list[Message]) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length
