"""Rows of an evaluation and what models answered; the language between the run and the summary."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from services.common.grading.grade import sample_values, template_values
from services.trainer.evaluating.turns import Call, Tool, Turn, said


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """A row: a question and its known answer."""

    number: int
    """From 1, as in the dataset."""
    messages: tuple[Turn, ...]
    """The question."""
    reference: str
    """What the known answer says, see `turns.said`; empty = none."""
    row: Mapping[str, Any]
    """As it is in the dataset."""
    tools: Sequence[Tool] = ()
    """That the row offers."""
    known: Turn | None = None
    """The known answer as a turn; None = none."""

    @property
    def prompt(self) -> str:
        """The last thing the user says."""
        return next((turn["content"] for turn in reversed(self.messages) if turn["role"] == "user"), "")


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Of a model to a row, or why there is none."""

    row: int
    text: str = ""
    finish_reason: str = ""
    """`STOP`, `LENGTH` or `TOOL_CALLS`."""
    seconds: float = 0.0
    tokens: int = 0
    """Written."""
    prompt_tokens: int = 0
    """Read."""
    reason: str = ""
    """Of the error catalogue; empty = answered."""
    message: str = ""
    logprob: float = 0.0
    """When the model was asked how probable the known answer is, in nats; `tokens` are those of the known answer then."""
    tool_calls: Sequence[Call] = dataclasses.field(default_factory=list)
    """Beside the text, or instead of one."""

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer."""
        return not self.reason

    @property
    def said(self) -> str:
        """What is compared with the known answer."""
        return said(self.text, self.tool_calls)


def references(item: Item, answer: Answer) -> dict[str, Any]:
    """What the texts of graders may refer to, about an answer to a row."""
    sample = sample_values(answer.text, answer.tool_calls, answer.said, answer.finish_reason.lower())
    return template_values(item.row, item.prompt, item.reference, sample)
