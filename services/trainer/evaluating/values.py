"""Rows of an evaluation and what models answered; the language between the run and the summary."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """A row: a question and its known answer."""

    number: int
    """From 1, as in the dataset."""
    messages: tuple[tuple[str, str], ...]
    """The question, as (role, text)."""
    reference: str
    """The known answer; empty = none."""
    row: Mapping[str, Any]
    """As it is in the dataset."""
    obstacle: str = ""
    """Why no model can be asked about it as it is; empty = one can."""

    @property
    def prompt(self) -> str:
        """The last thing the user says."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """Of a model to a row, or why there is none."""

    row: int
    text: str = ""
    finish_reason: str = ""
    """`STOP` or `LENGTH`."""
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

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer."""
        return not self.reason
