"""Where the loop is and how it ended; shared by the loop, the checkpoints, the export and `__main__` (which must not need torch
to fail)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from services.trainer.training.sums import Sums


@dataclass(slots=True)
class Totals:
    """What the meter adds up."""

    tokens: int = 0
    """Since the start of training, over all attempts."""
    target_tokens: int = 0
    sums: Sums | None = None
    """Since the last reading; None = no step since."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The one that `dataclasses.asdict` was made of."""
        return cls(**{**record, "sums": record["sums"] and Sums.from_record(record["sums"])})


@dataclass(slots=True)
class Progress:
    """Read when something fails; all of it is part of a checkpoint."""

    step: int = 0
    """The optimizer step being worked on; 0 = before the first."""
    done: int = 0
    """Optimizer steps applied."""
    evaluated: int = 0
    """The step after which the validation loss was last measured."""
    best_eval_loss: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    """The last value of every metric."""
    totals: Totals = field(default_factory=Totals)
    best_step: int = 0
    """The step after which it was measured."""
    evaluations_without_gain: int = 0
    """In a row, up to now."""
    skipped: list[int] = field(default_factory=list)
    """Steps whose batches taught nothing because one of them was not finite."""
    incidents: int = 0
    """How often a step was not finite."""
    seconds: float = 0.0
    """Training took so long, over all attempts."""
    ended: str = ""
    """Why the run ends here, before its last planned step: a reason of the catalogue; empty = it does not."""
    longest_row: int = 0
    """Tokens of the longest row."""

    def restore(self, record: Mapping[str, Any]) -> None:
        """Becomes what `dataclasses.asdict` made of another one."""
        for name, value in record.items():
            setattr(self, name, Totals.from_record(value) if name == "totals" else value)


@dataclass(frozen=True, slots=True)
class Result:
    """How the loop ended."""

    step: int
    metrics: dict[str, float]
    """The last value of every metric."""
    stopped: bool
    """Ended early because it was asked to."""
    ended: str = ""
    """Ended before the last planned step because its task wants it: a reason of the catalogue."""
