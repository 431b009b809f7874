"""What a head of labels gets right of the validation rows, beside an answer that needs no training; used by `__main__`.

A head cannot chat, so no evaluation asks it; and the base model has none that it could be compared with.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.grading.grade import Scale
from services.trainer.answering.outcome import write_lines
from services.trainer.answering.rows import question_and_answer, read_items
from services.trainer.evaluating import labels
from services.trainer.evaluating.row_lines import row_line
from services.trainer.evaluating.scores import Column
from services.trainer.evaluating.summary import Measured, summarise
from services.trainer.evaluating.values import Answer, Item
from services.trainer.training.data import Dataset

_SCORE = "accuracy"
_LONGEST_LABEL = 40


@dataclass(frozen=True, slots=True)
class _Scored:
    """See Scored."""

    has_labels: bool
    primary: str = _SCORE


@dataclass(frozen=True, slots=True)
class HeadVerdict:
    """How good a head is."""

    result: Mapping[str, Any]
    """The fields of EvaluationResult as JSON has them."""
    models: Sequence[Measured]
    """What the head is compared with, and the head."""

    def save_rows(self, data: Path, path: Path) -> None:
        """A line for every row of the file `data` that was measured, as evaluations keep them."""
        places = {number: place for place, number in enumerate(self.models[0].answers)}
        items = read_items(data, question_and_answer, most=None, system="")
        write_lines(path, (row_line(places[item.number], item, self.models) for item in items if item.number in places))


def head_verdict(training: Dataset, validation: Dataset, answers: Sequence[str], step: int, seed: int) -> HeadVerdict:
    """The most frequent label of the training data as the answer to everything, then the head's `answers` to the rows of
    `validation`. `step`: of the weights that gave them.
    """
    items = [Item(example.row, (), example.label, {}) for example in validation.examples]
    usual = most_frequent_label(training)
    models = [
        _measured(f'always "{_shortened(usual)}"', items, [usual] * len(items)),
        _measured("classifier", items, answers, step),
    ]
    scored = _Scored(labels.are_labels([item.reference for item in items]))
    return HeadVerdict(summarise(items, scored, models, seed), models)


def most_frequent_label(data: Dataset) -> str:
    """Of equally frequent ones the first in alphabetical order."""
    counts = Counter(example.label for example in data.examples)
    return min(counts, key=lambda label: (-counts[label], label))


def _measured(name: str, items: Sequence[Item], said: Sequence[str], step: int = 0) -> Measured:
    right = tuple(float(answer == item.reference) for item, answer in zip(items, said, strict=True))
    column = Column(_SCORE, Scale(0.0, True, None), right, (False,) * len(right), {})
    answers = {item.number: Answer(item.number, answer) for item, answer in zip(items, said, strict=True)}
    return Measured(name, answers, [column], step=step)


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
