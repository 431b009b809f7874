"""One answer graded: what went wrong is told beside the number, as OpenAI does; used by graders."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from services.common.grading.arithmetic import BadExpression, Expression
from services.common.grading.grade import NotGraded, scale, score
from services.common.grading.graders import Grader, Multi, ScoreModel
from services.common.grading.template import MissingReference

_FLAGS = (
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
)
_DETAILS = ("python_grader_server_error_type", "python_grader_runtime_error_details", "model_grader_server_error_details")


@dataclasses.dataclass(slots=True)
class Opinion:
    """What the model of a grader has answered, or why it has not."""

    text: str | None = None
    tokens: int = 0
    problem: str = ""


class Grade:
    """The number of a checked grader for one answer. `values` are those of the templates, `opinions` those of all its models."""

    def __init__(
        self, grader: Grader, values: Mapping[str, Any], opinions: Mapping[ScoreModel, Opinion | MissingReference]
    ) -> None:
        self._values, self._opinions = values, opinions
        self._errors: dict[str, Any] = dict.fromkeys(_FLAGS, False) | dict.fromkeys(_DETAILS)
        self.parts: dict[str, float] = {}
        """The numbers of a multi grader's graders."""
        self.reward = self._combined(grader) if isinstance(grader, Multi) else self._number(grader)

    def answer(self, given: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """OpenAI's answer about the grader as `given`."""
        by_model: dict[str, int] = {}
        for asked, opinion in self._opinions.items():
            if isinstance(opinion, Opinion):
                by_model[asked.model] = by_model.get(asked.model, 0) + opinion.tokens
        return {
            "reward": self.reward,
            "sub_rewards": self.parts,
            "model_grader_token_usage_per_model": by_model,
            "metadata": {
                "name": given["name"],
                "type": given["type"],
                "errors": self._errors,
                "execution_time": seconds,
                "scores": {**self.parts, given["name"]: self.reward},
                "token_usage": sum(by_model.values()) if by_model else None,
                "sampled_model_name": given.get("model") if given["type"] in ("score_model", "label_model") else None,
            },
        }

    def _combined(self, grader: Multi) -> float:
        """Of a multi grader; without the number of a part there is none of the whole."""
        self.parts = {each.name: self._number(each) for each in grader.graders}
        if any(self._errors.values()):
            return scale(grader).lowest
        try:
            return Expression(grader.calculate_output).value(self.parts)
        except BadExpression:
            return self._failed("formula_parse_error", grader)

    def _number(self, grader: Grader) -> float:
        try:
            return score(grader, self._values, self._judged)
        except MissingReference as error:
            of_sample = str(error).startswith("the row has no sample.")
            return self._failed("sample_parse_error" if of_sample else "invalid_variable_error", grader)
        except NotGraded:
            # It is the answer that has no number, unless there is none.
            return self._failed("model_grader_server_error" if self._is_silent(grader) else "model_grader_parse_error", grader)

    def _judged(self, asked: ScoreModel) -> str | None:
        opinion = self._opinions[asked]
        if isinstance(opinion, MissingReference):
            raise opinion
        if opinion.problem:
            self._errors["model_grader_server_error_details"] = opinion.problem
        return opinion.text

    def _is_silent(self, grader: Grader) -> bool:
        return isinstance(grader, ScoreModel) and self._judged(grader) is None

    def _failed(self, flag: str, grader: Grader) -> float:
        self._errors[flag] = True
        return scale(grader).lowest
