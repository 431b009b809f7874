"""Rows of a dataset to questions; used by both kinds of runs."""

import hashlib
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from services.trainer.answering.inference import TEXT
from services.trainer.evaluating.turns import Tool, Turn, said_by, spoken
from services.trainer.evaluating.values import Item

Row = Mapping[str, Any]
Split = Callable[[Row], tuple[Sequence[Row], Row | None]]
"""The turns of a row that a model is asked, and the turn that is the known answer or nothing."""
_OF_TOOLS = {"tool_calls": "assistant", "tool_call_id": "tool", "name": "tool"}
"""What a turn may have beside its text, and whose turn that is; other speakers have no names for a chat template."""


def read_items(path: pathlib.Path, split: Split, *, most: int | None, system: str, spread: bool = False) -> Iterator[Item]:
    """At most so many rows, the first ones or `spread` over all, by their numbers from 1.

    A `system` text goes before each conversation, instead of its own.
    """
    for number, line in _lines(path, most, spread=spread):
        row = json.loads(line)
        turns, answer = split(row)
        known = _turn(answer) if answer else None
        yield Item(number, _messages(turns, system), said_by(known) if known else "", row, _tools(row), known)


def row_count(path: pathlib.Path) -> int:
    """Rows of the file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def spread_rows(count: int, most: int) -> frozenset[int]:
    """The numbers of `most` of `count` rows: one somewhere in each of so many stretches of the same length.

    Always the same for the same numbers. Where in its stretch it lies is different for each, so that data in which something
    comes again every so many rows is asked fairly, too.
    """
    most = min(count, most)
    edges = [place * count // most for place in range(most + 1)] if most else []
    return frozenset(
        start + 1 + _scattered(f"{place} of {most} of {count}") % (end - start)
        for place, (start, end) in enumerate(itertools.pairwise(edges))
    )


def _scattered(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _lines(path: pathlib.Path, most: int | None, *, spread: bool) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        lines = enumerate(file, 1)
        if most is None or not spread:
            yield from itertools.islice(lines, most)
            return
        wanted = spread_rows(row_count(path), most)
        yield from (each for each in lines if each[0] in wanted)


def question_and_answer(row: Row) -> tuple[Sequence[Row], Row | None]:
    """Of formats CHAT, LABELED and PREFERENCE: the known answer is the label, the last turn of the assistant (what follows it
    is left out), or the preferred output. Of format TEXT nothing is asked, and all of it is known.
    """
    if is_text(row):
        return (), spoken(TEXT, row["text"])
    if is_preference(row):
        row = {"messages": [*row["input"]["messages"], *row["preferred_output"]]}
    turns = row["messages"]
    if "label" in row:
        return turns, spoken("assistant", str(row["label"]))
    last = max((index for index, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
    return turns[:last], turns[last] if last < len(turns) else None


def question_and_worse_answer(row: Row) -> tuple[Sequence[Row], Row | None]:
    """Of format PREFERENCE: the same with the other output."""
    return question_and_answer({"messages": [*row["input"]["messages"], *row["non_preferred_output"]]})


def is_preference(row: Row) -> bool:
    """Whether it is of format PREFERENCE; rows of other formats may have keys of their own that are called so."""
    return "preferred_output" in row and "messages" not in row


def is_text(row: Row) -> bool:
    """Whether it is of format TEXT: no model is asked anything, see Models.judge."""
    return "text" in row and "messages" not in row and not is_preference(row)


def to_answer(row: Row) -> tuple[Sequence[Row], Row | None]:
    """Of formats CHAT, LABELED and TEXT: everything but a turn of the assistant at the very end; a text is a turn of the user."""
    if is_text(row):
        return [spoken("user", row["text"])], None
    turns = row["messages"]
    return turns[:-1] if turns[-1]["role"] == "assistant" else turns, None


def _tools(row: Row) -> Sequence[Tool]:
    """Those that training shows the model, see `render_row`."""
    offered = row["input"].get("tools") if is_preference(row) else None
    return offered or row.get("tools") or ()


def _messages(turns: Sequence[Row], system: str) -> tuple[Turn, ...]:
    given = tuple(map(_turn, turns))
    if not system or not turns:
        return given
    return spoken("system", system), *(turn for turn in given if turn["role"] != "system")


def _turn(turn: Row) -> Turn:
    # What OpenAI calls developer is system to the models.
    role = "system" if turn["role"] == "developer" else str(turn["role"])
    beside = {key: turn[key] for key, whose in _OF_TOOLS.items() if role == whose and turn.get(key)}
    return {**spoken(role, _text(turn.get("content"))), **beside}


def _text(content: Any) -> str:
    """Of a text or of OpenAI's list of text parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return content or ""
