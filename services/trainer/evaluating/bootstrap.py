"""Confidence intervals by the paired bootstrap."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
_AT_ONCE = 100

Numbers = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval."""

    value: float
    low: float
    high: float


def resampled_means(values: Numbers, seed: int) -> Numbers:
    """Means of `values` (rows x columns) over RESAMPLES draws of as many rows with replacement: RESAMPLES x columns.

    A draw takes whole rows, so columns of the same rows stay paired (Efron and Tibshirani 1993, chapter 8; Koehn 2004).
    """
    rows = len(values)
    generator = np.random.Generator(np.random.PCG64(seed))
    means = np.empty((RESAMPLES, values.shape[1]))
    for start in range(0, RESAMPLES, _AT_ONCE):
        drawn = generator.integers(0, rows, size=(_AT_ONCE, rows))
        offsets = np.arange(_AT_ONCE)[:, None] * rows
        counts = np.bincount((drawn + offsets).ravel(), minlength=_AT_ONCE * rows).reshape(_AT_ONCE, rows)
        means[start : start + _AT_ONCE] = counts @ values / rows
    return means


def interval(value: float, means: Numbers) -> Interval:
    """The percentile interval of resampled means around the mean itself (Efron and Tibshirani 1993, chapter 13)."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # What was computed from sums in another order may miss the mean by a rounding error.
    return Interval(value, min(float(low), value), max(float(high), value))
