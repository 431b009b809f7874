"""Answers that stand in the rows instead of being asked for; used by evaluations."""

from collections.abc import Sequence
from typing import Protocol

from services.trainer.evaluating.turns import are_calls
from services.trainer.evaluating.values import Answer, Item

RECORDED = "recorded"
"""In place of a model's name."""


class Answers(Protocol):
    """The answers to the rows, by their numbers; an AnswerFile is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Answer: ...


class RecordedAnswers:
    """The texts `sample.output_text` of the rows and the calls `sample.output_tools`, in OpenAI's form; a row with neither is not
    answered."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._answers = {item.number: _answer(item) for item in items}

    def __len__(self) -> int:
        return len(self._answers)

    def __getitem__(self, row: int) -> Answer:
        return self._answers[row]


def _answer(item: Item) -> Answer:
    sample = item.row.get("sample")
    sample = sample if isinstance(sample, dict) else {}
    text, calls = sample.get("output_text"), sample.get("output_tools") or []
    if not are_calls(calls):
        return Answer(item.number, reason="INVALID_FIELD", message="sample.output_tools is no list of calls of functions")
    if not isinstance(text, str) and not calls:
        return Answer(item.number, reason="INVALID_FIELD", message="the row has no text sample.output_text")
    text = text if isinstance(text, str) else ""
    return Answer(item.number, text=text, tool_calls=calls, finish_reason="TOOL_CALLS" if calls else "STOP")
