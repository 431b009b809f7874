"""Whether a model is better than another, in a word and in words."""

import dataclasses

from services.trainer.evaluating.bootstrap import Interval

LEAST_ROWS = 10
"""Fewer say nothing: their interval can be a single point by chance."""
_LEAST_POINTS = 0.05
"""Less is told as nothing."""
_BETTER, _SAME, _WORSE = "BETTER", "NO_SIGNIFICANT_CHANGE", "WORSE"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """`kind` is a name of ModelResult.Verdict."""

    kind: str
    text: str


def verdict(delta: Interval, rows: int, *, is_share: bool) -> Verdict:
    """On a difference. `is_share`: the score is 0 to 1 and told in points of a hundred."""
    if rows < LEAST_ROWS:
        return Verdict("VERDICT_UNSPECIFIED", f"{_rows(rows)} too little; give at least {LEAST_ROWS}")
    if delta.low > 0:
        return Verdict(_BETTER, f"better by {_amount(delta, is_share=is_share)}")
    if delta.high < 0:
        turned = Interval(-delta.value, -delta.high, -delta.low)
        return Verdict(_WORSE, f"worse by {_amount(turned, is_share=is_share)}")
    return Verdict(_SAME, f"no significant change ({_amount(delta, is_share=is_share, sign='+')})")


def amount(score: Interval, *, is_share: bool) -> str:
    """A score with its interval, for example `88 % (81 to 95)`."""
    if not is_share:
        return f"{score.value:.3g} ({score.low:.3g} to {score.high:.3g})"
    return f"{_points(score.value)} % ({_points(score.low)} to {_points(score.high)})"


def _amount(delta: Interval, *, is_share: bool, sign: str = "") -> str:
    half = (delta.high - delta.low) / 2
    if not is_share:
        return f"{delta.value:{sign}.3g} ± {half:.2g}"
    return f"{_points(delta.value, sign)} ± {_points(half)} points"


def _rows(count: int) -> str:
    return "1 row says" if count == 1 else f"{count} rows say"


def _points(share: float, sign: str = "") -> str:
    """Whole points, or one digit after the point where whole ones would say nothing."""
    points = 100 * share
    if abs(points) >= 1:
        return f"{points:{sign}.0f}"
    return f"{points:{sign}.1f}" if abs(points) >= _LEAST_POINTS else f"{0:{sign}}"
