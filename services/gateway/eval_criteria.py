"""`testing_criteria` of evals, checked, and as the graders of an evaluation; used by evals, their runs and output items."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.common.grading.conversion import graders_from_proto
from services.common.grading.grade import Scale, scale
from services.gateway.bodies import required
from services.gateway.failures import refused
from services.gateway.grader_checks import refuse_senseless
from services.gateway.grader_form import grader_of
from tunesmith.v1.grader_pb2 import Grader, ScoreModel

_FIELD = "testing_criteria"
_OF_ITEM = re.compile(r"\{\{\s*item\.")
_OF_SAMPLE = re.compile(r"\{\{\s*sample\.")
_PREFIX = "c"
"""Names of criteria may be anything, those of graders not: criterion N is the grader cN."""


class Criteria:
    """The criteria of one eval as the caller wrote them. Raises InvalidArgument naming the one that cannot be graded by."""

    def __init__(self, given: Sequence[Any]) -> None:
        self._given = given
        self._paths = [f"{_FIELD}[{index}]" for index in range(len(given))]
        refuse_senseless(graders_from_proto(self._as_written()), self._paths)
        for criterion, path in zip(given, self._paths, strict=True):
            _check(criterion, f"{path}.")
        self.names = [str(criterion["name"]) for criterion in given]
        self.kinds = [str(criterion["type"]) for criterion in given]

    def graders(self) -> list[Grader]:
        """For rows that hold the item under its own key: nothing that a row has besides can hide a key of it."""
        nested = [grader_of(_nested(each), path, name) for each, path, name in self._named()]
        return [_with_threshold(grader) for grader in nested]

    def scales(self) -> dict[str, Scale]:
        """What the numbers of the graders mean, by their names."""
        return {grader.name: scale(grader) for grader in graders_from_proto(self.graders())}

    def known_answer(self) -> str:
        """The text, with references, that the first criterion compares answers with; empty = there is none."""
        for criterion in self._given:
            sides = [str(criterion.get(side, "")) for side in ("input", "reference")]
            if criterion["type"] in ("string_check", "text_similarity") and len(own := _of_items(sides)) == 1:
                return own[0]
        return ""

    def ask_for_samples(self) -> bool:
        """Whether one of them refers to an answer."""
        return any(_OF_SAMPLE.search(text) for criterion in self._given for text in _texts(criterion))

    def _as_written(self) -> list[Grader]:
        return [grader_of(each, path, name) for each, path, name in self._named()]

    def _named(self) -> list[tuple[Any, str, str]]:
        return [
            (each, path, f"{_PREFIX}{index}") for index, (each, path) in enumerate(zip(self._given, self._paths, strict=True))
        ]


def score_models(graders: Iterable[Grader]) -> Iterator[ScoreModel]:
    """Those among graders, and within them, that ask a model."""
    for grader in graders:
        if grader.HasField("score_model"):
            yield grader.score_model
        yield from score_models(grader.multi.graders)


def _check(criterion: Any, path: str) -> None:
    required(criterion, "name", str, path)
    if criterion["type"] in ("text_similarity", "multi") and criterion.get("pass_threshold") is None:
        raise refused(f"{path}pass_threshold", "is required: from which number on has an answer passed?")


def _with_threshold(grader: Grader) -> Grader:
    """Where nobody says from where on a model's number is enough, it is the middle of its range."""
    judge = grader.score_model
    if grader.HasField("score_model") and not judge.labels and not judge.HasField("pass_threshold"):
        judge.pass_threshold = (judge.range_min + (judge.range_max if judge.HasField("range_max") else 1.0)) / 2
    return grader


def _nested(value: Any) -> Any:
    """The same with `{{item.x}}` as `{{item.item.x}}`."""
    if isinstance(value, dict):
        return {key: _nested(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_nested(each) for each in value]
    return _OF_ITEM.sub("{{item.item.", value) if isinstance(value, str) else value


def _of_items(sides: Sequence[str]) -> list[str]:
    """Those of two texts that are not made of the answer."""
    return [text for text in sides if not _OF_SAMPLE.search(text)]


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in _texts(each)]
    return [value] if isinstance(value, str) else []
