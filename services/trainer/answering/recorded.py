"""Answers that stand in the rows instead of being asked for; used by evaluations."""

from collections.abc import Sequence
from typing import Protocol

from services.trainer.evaluating.values import Answer, Item

RECORDED = "recorded"
"""In place of a model's name."""


class Answers(Protocol):
    """The answers to the rows, by their numbers; an AnswerFile is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Answer: ...


class RecordedAnswers:
    """The texts `sample.output_text` of the rows; a row without one is not answered."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._answers = {item.number: _answer(item) for item in items}

    def __len__(self) -> int:
        return len(self._answers)

    def __getitem__(self, row: int) -> Answer:
        return self._answers[row]


def _answer(item: Item) -> Answer:
    sample = item.row.get("sample")
    text = sample.get("output_text") if isinstance(sample, dict) else None
    if not isinstance(text, str):
        return Answer(item.number, reason="INVALID_FIELD", message="the row has no text sample.output_text")
    return Answer(item.number, text=text, finish_reason="STOP")
