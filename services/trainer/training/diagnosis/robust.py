"""Measures of middle and spread that a few wild values do not move; used by the detectors."""

from collections.abc import Collection
from statistics import median

_NORMAL = 1.4826
"""Makes the median absolute deviation of normally distributed values equal to their standard deviation."""


def spread(values: Collection[float]) -> float:
    """Median absolute deviation, scaled to a standard deviation (Rousseeuw and Croux, 1993). `values` has at least one."""
    middle = median(values)
    return _NORMAL * median([abs(value - middle) for value in values])


__all__ = ["median", "spread"]
