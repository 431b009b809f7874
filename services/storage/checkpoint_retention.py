"""Which checkpoints of a task stay when another one is committed: the newest few, the best, those with a label; pure rules."""

import dataclasses
import uuid
from collections.abc import Sequence

CHECKPOINT = "CHECKPOINT"
DEFAULT_LIMIT = 2


@dataclasses.dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What decides how long a new checkpoint and those before it are kept."""

    labelled: bool
    eval_loss: float | None
    limit: int
    """How many of the newest stay; at least 1."""
    attempt: int = 0
    """Which attempt of the task made it; 0 = not told."""
    first_attempt: int = 0
    """What earlier attempts have made is not continued from, so that none of it can be the best."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that is stored."""

    id: uuid.UUID
    labelled: bool
    eval_loss: float | None
    in_use: bool
    attempt: int = 0


def superseded(newest_first: Sequence[Kept], limit: int, first_attempt: int = 0) -> list[uuid.UUID]:
    """Those that are not kept any more. Of equally good ones the oldest is the best: the first is what early stopping means."""
    measured = [kept for kept in reversed(newest_first) if kept.eval_loss is not None and kept.attempt >= first_attempt]
    best = min(measured, key=lambda kept: kept.eval_loss or 0.0, default=None)
    return [kept.id for kept in newest_first[limit:] if not (kept.labelled or kept.in_use or kept is best)]
