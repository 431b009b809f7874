"""A batch in which nothing carries loss; it would divide by zero."""

from collections.abc import Sequence

from services.trainer.training.data import Example
from services.trainer.training.diagnosis.observation import Finding, named, rows_of


def without_targets(step: int, examples: Sequence[Example], units: Sequence[int]) -> Finding | None:
    """`units` is what the batch counts in each part of the loss. Loading leaves out rows that train nothing, so this means that a
    method counts otherwise than loading does."""
    if all(units):
        return None
    rows = rows_of(examples)
    message = f"nothing in the batch of step {step} carries loss, so it is left out: {named(rows)}"
    return Finding("BATCH_WITHOUT_TARGETS", message, step, rows)
