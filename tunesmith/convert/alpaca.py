"""Alpaca rows: instruction, input and output, with the system text and history of LLaMA-Factory; also Dolly's names for them."""

from typing import Any

from tunesmith.convert.records import Row, Unconvertible, chat, optional_text, text_of


def recognises(row: Row) -> bool:
    """The row has an instruction and its answer."""
    return "instruction" in row and ("output" in row or "response" in row)


def to_chat(row: Row) -> dict[str, Any]:
    """Instruction and input are the user's words, a blank line between them."""
    further = optional_text(row, "input" if "input" in row else "context")
    instruction = text_of(row, "instruction")
    return chat(
        ("system", optional_text(row, "system")),
        *_history(row),
        ("user", f"{instruction}\n\n{further}" if further else instruction),
        ("assistant", text_of(row, "output" if "output" in row else "response")),
    )


def _history(row: Row) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    for exchange in row.get("history") or []:
        match exchange:
            case [str(asked), str(answered)]:
                turns += [("user", asked), ("assistant", answered)]
            case _:
                raise Unconvertible("history is not a list of [question, answer]")
    return turns
