"""Which of several compared models did best, in a word and in words."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from services.trainer.evaluating.bootstrap import Numbers, interval
from services.trainer.evaluating.verdict import amount, verdict


@dataclasses.dataclass(frozen=True, slots=True)
class Contender:
    """A model with the score that verdicts go by."""

    model: str
    step: int
    score: float
    means: Numbers
    """Of the score, resampled; the same draws of rows for all contenders."""
    perplexity: float | None
    verdict_text: str
    """Compared with the first model."""


def label(model: str, step: int) -> str:
    """For people: the step says more than the name of an artifact."""
    return f"{model} (step {step})" if step else model


def best_model(compared: Sequence[Contender], primary: str, rows: int, *, is_share: bool) -> dict[str, Any] | None:
    """The fields of BestModel as JSON has them, of the models beside the first; None where there is no choice.

    The highest of several means is too high by chance (the winner's curse), so the distance to the last model is told with its
    interval.
    """
    if len(compared) < 2:
        return None
    # Of equal ones the first: min keeps the order.
    found = min(compared, key=lambda each: (-each.score, float("inf") if each.perplexity is None else each.perplexity))
    score = amount(interval(found.score, found.means), is_share=is_share)
    text = f"{label(found.model, found.step)} does best with {primary} {score}; against the first model: {found.verdict_text}"
    last = _against(found, compared[-1], rows, is_share=is_share)
    return {"model": found.model, "step": found.step, "text": f"{text}; {last}"}


def _against(found: Contender, last: Contender, rows: int, *, is_share: bool) -> str:
    if found is last:
        return "it is the last one"
    delta = interval(found.score - last.score, found.means - last.means)
    return f"against the last one, {label(last.model, last.step)}: {verdict(delta, rows, is_share=is_share).text}"
