"""Answers that are labels: macro-F1 and the confusion matrix."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from services.common.grading.words import normalised

_MOST_LABELS, _MOST_WORDS, _LONGEST = 50, 6, 80
_ROWS_PER_LABEL = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Confusion:
    """How often which label was answered."""

    labels: tuple[str, ...]
    """Of the known answers, in alphabetical order."""
    counts: tuple[tuple[str, str, int], ...]
    """(known answer, answer or empty for none of the labels, rows)."""
    macro_f1: float


def are_labels(references: Sequence[str]) -> bool:
    """Whether known answers are labels: 2 to 50 different short ones, each twice on average or more."""
    different = {normalised(reference) for reference in references}
    is_few = 2 <= len(different) <= min(_MOST_LABELS, len(references) // _ROWS_PER_LABEL)
    return is_few and all(0 < len(label) <= _LONGEST and len(label.split()) <= _MOST_WORDS for label in different)


def confusion(answers: Sequence[str | None], references: Sequence[str]) -> Confusion:
    """Of the answers of one model, None = not answered, and the known answers."""
    # The first spelling of a label is the one that is shown.
    shown: dict[str, str] = {}
    for reference in references:
        shown.setdefault(normalised(reference), reference.strip())
    labels = tuple(sorted(shown.values()))
    pairs = Counter(
        (shown[normalised(known)], "" if said is None else shown.get(normalised(said), ""))
        for said, known in zip(answers, references, strict=True)
    )
    f1s = [_f1(label, pairs) for label in labels]
    counts = tuple((known, said, count) for (known, said), count in sorted(pairs.items()))
    return Confusion(labels, counts, sum(f1s) / len(f1s))


def _f1(label: str, pairs: Counter[tuple[str, str]]) -> float:
    right = pairs[label, label]
    known = sum(count for (expected, _), count in pairs.items() if expected == label)
    said = sum(count for (_, answered), count in pairs.items() if answered == label)
    return 2 * right / (known + said)
