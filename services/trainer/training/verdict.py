"""What a head of labels gets right of the validation rows, beside an answer that needs no training; used by `__main__`.

A head cannot chat, so no evaluation asks it; and the base model has none that it could be compared with.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.common.grading.grade import Scale
from services.trainer.evaluating import labels
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


def head_verdict(training: Dataset, validation: Dataset, answers: Sequence[str], step: int, seed: int) -> dict[str, Any]:
    """The fields of EvaluationResult as JSON has them: the most frequent label of the training data as the answer to everything,
    then the head's `answers` to the rows of `validation`. `step`: of the weights that gave them.
    """
    items = [Item(example.row, (), example.label, {}) for example in validation.examples]
    usual = most_frequent_label(training)
    models = [
        _measured(f'always "{_shortened(usual)}"', items, [usual] * len(items)),
        _measured("classifier", items, answers, step),
    ]
    return summarise(items, _Scored(labels.are_labels([item.reference for item in items])), models, seed)


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
