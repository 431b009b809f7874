"""Graders as values, see grader.proto; made by `conversion`, judged by `checks`, run by the trainer."""

import dataclasses
import re
from typing import TypeAlias

OUTPUT, REFERENCE = "{{sample.said}}", "{{item.reference}}"
"""Defaults of the two texts that are compared; calls of tools are part of both."""


@dataclasses.dataclass(frozen=True, slots=True)
class StringCheck:
    """`operation` is a name of StringCheck.Operation."""

    name: str
    input: str
    reference: str
    operation: str


@dataclasses.dataclass(frozen=True, slots=True)
class TextSimilarity:
    """`metric` is a name of TextSimilarity.Metric."""

    name: str
    input: str
    reference: str
    metric: str
    pass_threshold: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """Of what a model is asked."""

    role: str
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreModel:
    """Asks `model`."""

    name: str
    model: str
    input: tuple[Turn, ...]
    range_min: float = 0.0
    range_max: float = 1.0
    pass_threshold: float | None = None
    max_tokens: int = 64
    labels: tuple[str, ...] = ()
    """It answers with one of them; empty = with a number."""
    passing_labels: tuple[str, ...] = ()

    @property
    def answer_regex(self) -> str:
        """What its answer matches from its first to its last character; empty = anything."""
        return "|".join(map(re.escape, self.labels))


@dataclasses.dataclass(frozen=True, slots=True)
class Multi:
    """Computes `calculate_output` from the numbers of `graders`."""

    name: str
    graders: "tuple[Grader, ...]"
    calculate_output: str
    pass_threshold: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Python:
    """Never run."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Unknown:
    """A kind that was left out, or is not known here."""

    name: str


Grader: TypeAlias = StringCheck | TextSimilarity | ScoreModel | Multi | Python | Unknown


def asking(graders: tuple[Grader, ...]) -> tuple[ScoreModel, ...]:
    """Those among them, and within those, that ask a model."""
    found: list[ScoreModel] = []
    for grader in graders:
        if isinstance(grader, ScoreModel):
            found.append(grader)
        elif isinstance(grader, Multi):
            found.extend(asking(grader.graders))
    return tuple(found)
