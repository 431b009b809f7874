"""The scores of every row: the built-in ones, then those of the graders."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from services.common.grading import overlap
from services.common.grading.grade import NotGraded, Scale, grade, scale
from services.common.grading.graders import Grader, ScoreModel
from services.common.grading.words import normalised
from services.trainer.evaluating import labels
from services.trainer.evaluating.json_fields import has_fields, json_field_f1, json_valid
from services.trainer.evaluating.values import Answer, Item, references

JudgedRow = Callable[[ScoreModel, int], str | None]
"""What the model of a grader has answered about a row, given its number."""

_LIKELIHOOD = "log_likelihood"
_SHARE = Scale(0.0, True, None)
_ALWAYS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": lambda answer, reference: float(normalised(answer) == normalised(reference)),
    "f1": overlap.f1,
    "bleu": overlap.bleu,
    "rouge_l": overlap.rouge_l,
}
_OF_JSON: Mapping[str, Callable[[str, str], float]] = {
    "json_valid": lambda answer, _: json_valid(answer),
    "json_field_f1": json_field_f1,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One score of one model over all rows, in their order."""

    name: str
    scale: Scale
    values: tuple[float, ...]
    passed: tuple[bool, ...]
    """Whether they are enough; those that could not be graded are not."""
    ungraded: Mapping[int, str]
    """Why, by the number of the row; those count with the lowest score."""


class Scoring:
    """How the rows of one evaluation are scored; every item has a reference."""

    def __init__(self, items: Sequence[Item], graders: Sequence[Grader]) -> None:
        references = [item.reference for item in items]
        self._items, self._graders = items, graders
        self._built_in = dict(_ALWAYS) | (dict(_OF_JSON) if all(map(has_fields, references)) else {})
        self._asks = any(item.messages for item in items)
        self.has_labels = self._asks and labels.are_labels(references)
        self.primary = self._primary()
        """What verdicts go by."""

    def columns(self, answers: Mapping[int, Answer], judged: JudgedRow) -> list[Column]:
        """All scores of one model, the one that verdicts go by first."""
        if not self._asks:
            return [self._likelihood(answers)]
        found = [self._measured(name, metric, answers) for name, metric in self._built_in.items()]
        found += [self._graded(grader, answers, judged) for grader in self._graders]
        return sorted(found, key=lambda column: column.name != self.primary)

    def _primary(self) -> str:
        if not self._asks:
            return _LIKELIHOOD
        if self._graders:
            return self._graders[0].name
        if self.has_labels:
            return "exact_match"
        return "json_field_f1" if "json_field_f1" in self._built_in else "f1"

    def _likelihood(self, answers: Mapping[int, Answer]) -> Column:
        """Of texts, nats per token; one that could not be judged counts like the least probable one."""
        known = {row: answer.logprob / answer.tokens for row, answer in answers.items() if answer.is_answered}
        lowest = min(known.values(), default=0.0)
        values = tuple(known.get(item.number, lowest) for item in self._items)
        return Column(_LIKELIHOOD, Scale(lowest, False, None), values, (False,) * len(values), {})

    def _measured(self, name: str, metric: Callable[[str, str], float], answers: Mapping[int, Answer]) -> Column:
        values = []
        for item in self._items:
            answer = answers[item.number]
            values.append(metric(answer.said, item.reference) if answer.is_answered else 0.0)
        return Column(name, _SHARE, tuple(values), (False,) * len(values), {})

    def _graded(self, grader: Grader, answers: Mapping[int, Answer], judged: JudgedRow) -> Column:
        known, ungraded, means = {}, {}, scale(grader)
        for item in self._items:
            try:
                known[item.number] = _grade(grader, item, answers[item.number], judged)
            except NotGraded as error:
                ungraded[item.number] = str(error)
        # Nobody knows how low an expression goes; to fail must not be better than to answer badly.
        lowest = min([means.lowest, *known.values()])
        values = [known.get(item.number, lowest) for item in self._items]
        passed = [item.number not in ungraded and means.passes(value) for item, value in zip(self._items, values, strict=True)]
        return Column(grader.name, means, tuple(values), tuple(passed), ungraded)


def _grade(grader: Grader, item: Item, answer: Answer, judged: JudgedRow) -> float:
    if not answer.is_answered:
        raise NotGraded(answer.message)
    return grade(grader, references(item, answer), lambda asked: judged(asked, item.number))
