"""What the detectors are shown and what they answer; plain values, the same on every rank."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.trainer.training.data import Example

MOST_ROWS = 64
"""An event names no more rows than this."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One optimizer step over all ranks."""

    step: int
    """From 1."""
    loss: float
    """Mean of the window, nats."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    rows: tuple[int, ...] = ()
    """Rows of the training data in the window, ascending; at most MOST_ROWS."""
    movement: float | None = None
    """How far a sample of the trained weights has moved since the last time it was measured, relative to its size; None = not
    measured at this step."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should worry the user; the catalogue has the suggestion unless there is a better one."""

    reason: str
    message: str
    step: int
    rows: tuple[int, ...] = ()
    suggestion: str = ""


def rows_of(examples: Sequence[Example]) -> tuple[int, ...]:
    """Numbers of the rows, ascending, each once; at most MOST_ROWS."""
    return tuple(sorted({example.row for example in examples if example.row}))[:MOST_ROWS]


def named(rows: Sequence[int], most: int = 8) -> str:
    """`rows 3, 17 and 41`; empty without rows."""
    if not rows:
        return ""
    shown = [str(row) for row in rows[:most]]
    last = f"{len(rows) - most} more" if len(rows) > most else shown.pop()
    return f"rows {', '.join(shown)} and {last}" if shown else f"row {last}"
