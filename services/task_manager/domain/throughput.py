"""How fast runs were, and what that says about a task like them; measured by the follower of a run, used by PlanTask."""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

_NEAREST = 5
_MAX_RANK_RATIO = 4.0


@dataclasses.dataclass(frozen=True, slots=True)
class RunKind:
    """What makes runs comparable."""

    base_model: str
    method: str
    tuning: str
    processes: int
    precision: str
    """Empty = what the device does well."""
    lora_rank: int
    target_modules: tuple[str, ...]
    """See Lora.places."""
    batch_size: int
    """Examples per forward pass of one process."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunSpeed:
    """What a run was and how fast it trained."""

    kind: RunKind
    tokens_per_second: float


class SpeedMeter:
    """Adds up the training time of a run from its metrics; what was not observed, as validation, is not counted."""

    def __init__(self) -> None:
        self._last_tokens: float | None = None
        self._tokens = 0.0
        self._seconds = 0.0

    def started(self, resumed_step: int) -> None:
        """The training loop begins, behind a checkpoint unless `resumed_step` is 0: then tokens of earlier attempts count on."""
        self._last_tokens = None if resumed_step else 0.0

    def measured(self, values: Mapping[str, float]) -> None:
        """Metrics of one event: `tokens` since the start, and `tokens_per_second` since the event before."""
        tokens, speed = values.get("tokens", math.nan), values.get("tokens_per_second", math.nan)
        if not (math.isfinite(tokens) and math.isfinite(speed) and speed > 0):
            return
        # Whoever takes over a run or an earlier attempt in the middle does not know how much of the first count is old.
        if self._last_tokens is not None and tokens > self._last_tokens:
            self._tokens += tokens - self._last_tokens
            self._seconds += (tokens - self._last_tokens) / speed
        self._last_tokens = tokens

    @property
    def tokens_per_second(self) -> float | None:
        """None when nothing was observed."""
        return self._tokens / self._seconds if self._seconds else None


def expected_speed(kind: RunKind, earlier: Sequence[RunSpeed]) -> float | None:
    """Tokens per second of a run of this kind: the median of the nearest earlier runs; None when none is comparable.

    Nothing is scaled: a run with other weights, processes, modules, or a rank more than 4 times off says too little.
    """
    alike = sorted((run for run in earlier if _is_alike(kind, run.kind)), key=lambda run: _distance(kind, run.kind))
    return statistics.median(run.tokens_per_second for run in alike[:_NEAREST]) if alike else None


def _is_alike(one: RunKind, other: RunKind) -> bool:
    same = ("base_model", "method", "tuning", "processes", "precision")
    return (
        all(getattr(one, name) == getattr(other, name) for name in same)
        and set(one.target_modules) == set(other.target_modules)
        and _ratio(one.lora_rank, other.lora_rank) <= _MAX_RANK_RATIO
    )


def _distance(one: RunKind, other: RunKind) -> float:
    return math.log2(_ratio(one.lora_rank, other.lora_rank)) + math.log2(_ratio(one.batch_size, other.batch_size))


def _ratio(one: int, other: int) -> float:
    low, high = sorted((max(1, one), max(1, other)))
    return high / low
