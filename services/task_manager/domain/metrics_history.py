"""Thins a metric's history out to a number of points in one pass and bounded memory; used by ListMetrics."""

import dataclasses
import datetime
import math
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric; `order` is its sequence number."""

    order: int
    step: int
    value: float
    elapsed: datetime.timedelta


@dataclasses.dataclass(frozen=True, slots=True)
class _Bucket:
    """The extremes of some neighbouring samples."""

    smallest: Sample
    largest: Sample

    def joined(self, other: "_Bucket") -> "_Bucket":
        return _Bucket(min(self.smallest, other.smallest, key=_rank), max(self.largest, other.largest, key=_rank))


class SeriesThinner:
    """Takes samples in order; keeps the first, the last, and the smallest and largest of each of a bounded number of buckets.

    Whenever the buckets run out, neighbours are joined, so the overall smallest and largest are always among them.
    """

    def __init__(self, max_points: int) -> None:
        self._max_points = max_points
        self._max_buckets = max(1, (max_points - 2) // 2)
        self._width = 1
        self._in_last = 0
        self._buckets: list[_Bucket] = []
        self._ends: tuple[Sample, Sample] | None = None
        self.sample_count = 0

    def add(self, sample: Sample) -> None:
        """The next sample in order."""
        self.sample_count += 1
        self._ends = (self._ends[0] if self._ends else sample, sample)
        single = _Bucket(sample, sample)
        if self._buckets and self._in_last < self._width:
            self._buckets[-1] = self._buckets[-1].joined(single)
            self._in_last += 1
            return
        self._buckets.append(single)
        self._in_last = 1
        if len(self._buckets) > self._max_buckets:
            self._halve()

    def samples(self) -> list[Sample]:
        """At most `max_points` samples in order; with fewer than four, the ends come before the extremes."""
        if self._ends is None:
            return []
        wanted = {self._ends[1].order: self._ends[1], self._ends[0].order: self._ends[0]}
        for sample in self._extremes():
            wanted[sample.order] = sample
        kept = list(wanted.values())[: self._max_points]
        return sorted(kept, key=lambda sample: sample.order)

    def _extremes(self) -> Iterator[Sample]:
        for bucket in self._buckets:
            yield bucket.smallest
            yield bucket.largest

    def _halve(self) -> None:
        pairs = zip(self._buckets[::2], self._buckets[1::2], strict=False)
        joined = [left.joined(right) for left, right in pairs]
        if len(self._buckets) % 2:
            # The odd one stays open for as many as the joined ones have.
            joined.append(self._buckets[-1])
        else:
            self._in_last += self._width
        self._buckets, self._width = joined, self._width * 2


def _rank(sample: Sample) -> float:
    # A value that is not a number must survive the thinning: it is what the reader is looking for.
    return math.inf if math.isnan(sample.value) else sample.value
