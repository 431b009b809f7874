"""Whether a model finds the preferred outputs more probable than the others; used by evaluations of preferences."""

from collections.abc import Sequence

from services.common.grading.grade import Scale
from services.trainer.evaluating.bootstrap import Interval
from services.trainer.evaluating.perplexity import Likelihoods
from services.trainer.evaluating.scores import Column
from services.trainer.evaluating.values import Item
from services.trainer.evaluating.verdict import amount, verdict

ACCURACY, MARGIN = "preference_accuracy", "preference_margin"
_UNKNOWN = 0.0
"""What a row counts of which one output cannot be judged: the same to every model that cannot, so that it makes no difference."""


def preference_columns(items: Sequence[Item], preferred: Likelihoods, others: Likelihoods) -> list[Column]:
    """The share of rows whose preferred output is the more probable one, as a whole, and by how many nats it is on average."""
    margins, unknown = [], {}
    for item in items:
        better, worse = preferred[item.number], others[item.number]
        if better.is_answered and worse.is_answered:
            margins.append(better.logprob - worse.logprob)
        else:
            margins.append(_UNKNOWN)
            unknown[item.number] = better.message or worse.message
    right = tuple(float(margin > 0) for margin in margins)
    none = (False,) * len(margins)
    return [
        Column(ACCURACY, Scale(_UNKNOWN, True, None), right, none, unknown),
        Column(MARGIN, Scale(_UNKNOWN, False, None), tuple(margins), none, unknown),
    ]


def preference_text(accuracy: Interval, margin: Interval) -> str:
    """Of one model."""
    often = f"the preferred output is the more probable one in {amount(accuracy, is_share=True)} of the rows"
    return f"{often}, mean margin {margin.value:.3g} nats"


def preference_change(accuracy: Interval, margin: Interval, grown: int, rows: int) -> str:
    """Of the differences to the first model; the margin has `grown` in so many rows."""
    found, by = verdict(accuracy, rows, is_share=True), verdict(margin, rows, is_share=False)
    if found.text == by.text:
        return found.text
    return f"share: {found.text}; margin: {by.text}, larger in {grown} of {rows} rows"
