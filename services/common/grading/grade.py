"""The number that a grader gives an answer."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.common.grading import template
from services.common.grading.arithmetic import BadExpression, Expression
from services.common.grading.graders import Grader, Multi, ScoreModel, StringCheck, TextSimilarity
from services.common.grading.overlap import METRICS
from services.common.grading.template import MissingReference
from services.common.grading.words import json_value

# The number must stand by itself: not the 2 of `v2`, nor a part of `0.25x` or of `1e-3`.
_NUMBER = re.compile(r"(?<![\w.])(?<!\w[-+])[-+]?(?:\d++(?:\.\d++)?+|\.\d++)(?!\w)")

_EPSILON = 1e-9

Judged = Callable[[ScoreModel], str | None]
"""What the model of a grader has answered about the row; None = nothing."""

_CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "EQ": lambda text, reference: text == reference,
    "NE": lambda text, reference: text != reference,
    "LIKE": lambda text, reference: reference in text,
    "ILIKE": lambda text, reference: reference.casefold() in text.casefold(),
}


class NotGraded(ValueError):
    """An answer that a grader can give no number; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """What the numbers of a grader mean."""

    lowest: float
    """What counts when there is none."""
    is_share: bool
    """They are 0 to 1."""
    pass_threshold: float | None
    """From here on an answer has passed; None = nobody says."""

    def passes(self, value: float) -> bool:
        """Whether a number of this scale is at least the threshold; False without one."""
        return self.pass_threshold is not None and value >= self.pass_threshold - _EPSILON


def scale(grader: Grader) -> Scale:
    """Of a checked grader."""
    if isinstance(grader, ScoreModel) and not grader.labels:
        return Scale(grader.range_min, (grader.range_min, grader.range_max) == (0, 1), grader.pass_threshold)
    if isinstance(grader, Multi):
        return Scale(0.0, False, grader.pass_threshold)
    return Scale(0.0, True, grader.pass_threshold if isinstance(grader, TextSimilarity) else 1.0)


def grade(grader: Grader, values: Mapping[str, Any], judged: Judged) -> float:
    """The number; `values` are those of the templates. Raises NotGraded."""
    try:
        return score(grader, values, judged)
    except (MissingReference, BadExpression) as error:
        raise NotGraded(str(error)) from error


def score(grader: Grader, values: Mapping[str, Any], judged: Judged) -> float:
    """As `grade`, with the reason as it is: raises MissingReference, BadExpression, NotGraded."""
    if isinstance(grader, StringCheck | TextSimilarity):
        text, reference = template.render(grader.input, values), template.render(grader.reference, values)
        if isinstance(grader, StringCheck):
            return float(_CHECKS[grader.operation](text, reference))
        return METRICS[grader.metric](text, reference)
    if isinstance(grader, ScoreModel):
        if (answer := judged(grader)) is None:
            raise NotGraded(f"{grader.model} gave no answer")
        if grader.labels:
            return float(label_in(answer, grader.labels) in grader.passing_labels)
        return number_in(answer, grader.range_min, grader.range_max)
    assert isinstance(grader, Multi)
    return Expression(grader.calculate_output).value({each.name: score(each, values, judged) for each in grader.graders})


def template_values(row: Mapping[str, Any], prompt: str, reference: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """What references may name; `sample` as `sample_values` gives it. Keys of the row do not hide `reference` and `prompt`."""
    return {"item": {**row, "prompt": prompt, "reference": reference}, "sample": sample}


def sample_values(
    text: str, calls: Sequence[Mapping[str, Any]] = (), said: str | None = None, finish_reason: str = "stop"
) -> dict[str, Any]:
    """What references to the sample may name; `calls` and `finish_reason` are in OpenAI's form, and `said` is text and calls in
    one."""
    value = json_value(text)
    message = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    sample = {"output_text": text, "output_tools": calls, "choices": choices, "said": text if said is None else said}
    return sample | ({} if value is None else {"output_json": value})


def number_in(text: str, least: float, most: float) -> float:
    """The first number of a text, brought into the range; raises NotGraded."""
    if not (match := _NUMBER.search(text)):
        raise NotGraded(f"there is no number in {text[:80]!r}")
    return max(least, min(most, float(match[0])))


def label_in(text: str, labels: Sequence[str]) -> str:
    """The label that a text is, spaces around it aside; raises NotGraded."""
    if (label := text.strip()) not in labels:
        raise NotGraded(f"{text[:80]!r} is none of the labels")
    return label
