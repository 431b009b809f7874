"""Where the loop is and how it ended; shared by the loop, the export and `__main__` (which must not need torch to fail)."""

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """Read when something fails."""

    step: int = 0
    """The optimizer step being worked on; 0 = before the first."""


@dataclass(frozen=True, slots=True)
class Result:
    """How the loop ended."""

    step: int
    metrics: dict[str, float]
    """The last value of every metric."""
    stopped: bool
    """Ended early because it was asked to."""
