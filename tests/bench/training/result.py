"""What rounds of measurements amount to: of every step the least disturbed time, from all rounds together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.training.job import Measured


@dataclass(frozen=True, slots=True)
class Result:
    """Of one variant over all rounds."""

    targets_per_second: float
    losses: tuple[float, ...]
    peak_rss: int
    seconds_per_step: float
    cpu_seconds_per_step: float

    @classmethod
    def of(cls, rounds: Sequence[Measured]) -> "Result":
        """Every round did the same steps."""
        best, cpu = (_least(times) for times in ([each.seconds for each in rounds], [each.cpu_seconds for each in rounds]))
        first = rounds[0]
        speed = sum(first.targets) / sum(best)
        return cls(speed, first.losses, max(each.peak_rss for each in rounds), statistics.mean(best), statistics.mean(cpu))


def _least(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Of every step."""
    return [min(times) for times in zip(*rounds, strict=True)]


def same_curve(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> bool:
    """Whether two runs on the same batches learn alike, step by step."""
    return len(ours) == len(theirs) and all(
        abs(one - other) <= tolerance * abs(other) for one, other in zip(ours, theirs, strict=True)
    )
