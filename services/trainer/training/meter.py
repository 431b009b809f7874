"""Adds up what happened between two metric events; used by the loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Sums:
    """What an objective has summed over some examples, and the units it is divided by."""

    parts: tuple[float, ...]
    """Of the loss."""
    metrics: tuple[float, ...]
    units: tuple[int, ...]
    """For each part; metrics are divided by the first."""
    names: tuple[str, ...] = ()
    """Of the metrics."""

    def __add__(self, other: Self) -> "Sums":
        units = tuple(own + others for own, others in zip(self.units, other.units, strict=True))
        return Sums(_added(self.parts, other.parts), _added(self.metrics, other.metrics), units, self.names)

    @property
    def loss(self) -> float:
        """Mean, nats."""
        return sum(part / units for part, units in zip(self.parts, self.units, strict=True))

    def means(self, prefix: str = "") -> dict[str, float]:
        """The loss and every metric by name."""
        return {f"{prefix}loss": self.loss} | {
            prefix + name: value / self.units[0] for name, value in zip(self.names, self.metrics, strict=True)
        }


class Meter:
    """Loss, metrics and speed since the last reading, tokens since the start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = 0
        self._target_tokens = 0
        self._sums: Sums | None = None
        self._timed_tokens = 0
        self._since = clock()

    def add(self, sums: Sums, tokens: int, target_tokens: int) -> None:
        """One optimizer step has been applied."""
        self._sums = self._sums + sums if self._sums else sums
        self._tokens += tokens
        self._target_tokens += target_tokens
        self._timed_tokens += tokens

    def read(self) -> dict[str, float]:
        """Values for a metric event; starts the next stretch. Call after at least one `add`."""
        assert self._sums is not None
        now = self._clock()
        seconds = max(now - self._since, 1e-9)
        values = self._sums.means() | {
            "tokens": float(self._tokens),
            "target_tokens": float(self._target_tokens),
            "tokens_per_second": self._timed_tokens / seconds,
        }
        self._sums, self._timed_tokens, self._since = None, 0, now
        return values

    def restart_clock(self) -> None:
        """Leave out the time since the last reading: it went into something else than training."""
        self._since = self._clock()


def _added(left: Sequence[float], right: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))
