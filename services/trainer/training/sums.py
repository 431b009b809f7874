"""What an objective has added up, and its means; made by the engine, kept by meter and progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


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

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The one `dataclasses.asdict` was made of, also by way of JSON, which writes floats so that they read as themselves."""
        return cls(**{name: tuple(values) for name, values in record.items()})

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


def _added(left: Sequence[float], right: Sequence[float]) -> tuple[float, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))
