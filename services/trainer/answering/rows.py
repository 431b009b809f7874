"""Rows of a dataset to questions; used by both kinds of runs."""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from services.trainer.evaluating.values import Item

Row = Mapping[str, Any]
Split = Callable[[Row], tuple[Sequence[Row], str]]
"""The turns of a row that a model is asked, and the known answer or nothing."""


def read_items(path: pathlib.Path, split: Split, *, most: int | None, system: str) -> Iterator[Item]:
    """At most so many rows, numbered from 1. A `system` text goes before each conversation, instead of its own."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if most is not None and number > most:
                return
            row = json.loads(line)
            turns, reference = split(row)
            yield Item(number, _messages(turns, system), reference, row, _obstacle(row, turns))


def question_and_answer(row: Row) -> tuple[Sequence[Row], str]:
    """Of formats CHAT, LABELED and PREFERENCE: the known answer is the label, the last turn of the assistant (what follows it
    is left out), or the preferred output. Of format TEXT nothing is asked, and all of it is known.
    """
    if is_text(row):
        return (), row["text"]
    if is_preference(row):
        row = {"messages": [*row["input"]["messages"], *row["preferred_output"]]}
    turns = row["messages"]
    if "label" in row:
        return turns, str(row["label"])
    last = max((index for index, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    return turns[:last], _text(turns[last].get("content")) if last < len(turns) else ""


def question_and_worse_answer(row: Row) -> tuple[Sequence[Row], str]:
    """Of format PREFERENCE: the same with the other output."""
    return question_and_answer({"messages": [*row["input"]["messages"], *row["non_preferred_output"]]})


def is_preference(row: Row) -> bool:
    """Whether it is of format PREFERENCE; rows of other formats may have keys of their own that are called so."""
    return "preferred_output" in row and "messages" not in row


def is_text(row: Row) -> bool:
    """Whether it is of format TEXT: no model is asked anything, see Models.judge."""
    return "text" in row and "messages" not in row


def to_answer(row: Row) -> tuple[Sequence[Row], str]:
    """Of formats CHAT, LABELED and TEXT: everything but a turn of the assistant at the very end; a text is a turn of the user."""
    if "text" in row:
        return [{"role": "user", "content": row["text"]}], ""
    turns = row["messages"]
    return turns[:-1] if turns[-1]["role"] == "assistant" else turns, ""


def _obstacle(row: Row, turns: Sequence[Row]) -> str:
    """Without its tools and the calls in it a conversation would be another one than training shows the model."""
    asked = row["input"] if is_preference(row) else row
    if asked.get("tools") or any(turn.get("tool_calls") or turn["role"] == "tool" for turn in turns):
        return "the row has tools, which models are not offered here"
    return ""


def _messages(turns: Sequence[Row], system: str) -> tuple[tuple[str, str], ...]:
    # What OpenAI calls developer is system to the models.
    given = [("system" if turn["role"] == "developer" else str(turn["role"]), _text(turn.get("content"))) for turn in turns]
    if not system or not turns:
        return tuple(given)
    return ("system", system), *(turn for turn in given if turn[0] != "system")


def _text(content: Any) -> str:
    """Of a text or of OpenAI's list of text parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content or ""
