"""How probable the known answers are to a model, and whether more so than to another one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.trainer.evaluating.bootstrap import Interval, Numbers, interval, resampled_means
from services.trainer.evaluating.values import Answer
from services.trainer.evaluating.verdict import LEAST_ROWS

Likelihoods = Mapping[int, Answer]
"""How probable the known answer of each row is to a model."""

_MOST_NATS = 700.0
"""e to this is a double; a loss beyond it is no less hopeless."""


def perplexities(models: Sequence[Likelihoods], seed: int) -> list[dict[str, Any] | None]:
    """Of each model the fields of Perplexity as JSON has them, compared with the first; None where no row could be told.

    Perplexity is e to the mean negative log-likelihood per token (Jelinek et al. 1977). The mean is over tokens, but rows are
    drawn: it is the ratio of two sums over the same rows.
    """
    return [_perplexity(own, models[0], seed) for own in models]


def _perplexity(own: Likelihoods, first: Likelihoods, seed: int) -> dict[str, Any] | None:
    told = [answer for answer in own.values() if answer.is_answered]
    if not told:
        return None
    sums = _sums(own, [answer.row for answer in told])
    found = interval(_value(sums), _drawn(sums, seed))
    measured = {"value": found.value, "low": found.low, "high": found.high, "loss": _loss(sums)}
    counts = {"token_count": int(sums[:, 1].sum()), "unscored_count": len(own) - len(told)}
    return measured | counts | _difference(own, first, seed)


def _difference(own: Likelihoods, first: Likelihoods, seed: int) -> dict[str, Any]:
    rows = [row for row, answer in own.items() if answer.is_answered and first[row].is_answered]
    if own is first or not rows:
        return {}
    ours, theirs = _sums(own, rows), _sums(first, rows)
    if (ours[:, 1] != theirs[:, 1]).any():
        return {}
    # The same seed draws the same rows for both, so that the difference is paired.
    drawn = _drawn(ours, seed) - _drawn(theirs, seed)
    found = interval(_value(ours) - _value(theirs), drawn)
    return {"delta": found.value, "delta_low": found.low, "delta_high": found.high, "delta_text": _text(found, len(rows))}


def _sums(known: Likelihoods, rows: Sequence[int]) -> Numbers:
    """Negative log-likelihood and tokens of each row."""
    return np.array([[-known[row].logprob, known[row].tokens] for row in rows], dtype=np.float64)


def _drawn(sums: Numbers, seed: int) -> Numbers:
    means = resampled_means(sums, seed)
    drawn: Numbers = np.exp(np.minimum(means[:, 0] / means[:, 1], _MOST_NATS))
    return drawn


def _loss(sums: Numbers) -> float:
    return float(sums[:, 0].sum() / sums[:, 1].sum())


def _value(sums: Numbers) -> float:
    return math.exp(min(_loss(sums), _MOST_NATS))


def _text(delta: Interval, rows: int) -> str:
    if rows < LEAST_ROWS:
        return ""
    half = (delta.high - delta.low) / 2
    if delta.low <= 0 <= delta.high:
        return f"no significant change ({delta.value:+.3g} ± {half:.2g})"
    return f"{'lower' if delta.value < 0 else 'higher'} by {abs(delta.value):.3g} ± {half:.2g}"
