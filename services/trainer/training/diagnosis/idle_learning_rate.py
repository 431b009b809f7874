"""A learning rate that does nothing: neither weights nor loss move."""

from collections import deque

from services.trainer.training.diagnosis.observation import Finding, Observation
from services.trainer.training.diagnosis.robust import median, spread

MEASURE_EVERY = 20
"""Steps between two looks at the weights."""

_STILL = 1e-5
"""Relative to the size of the weights. In as many steps, AdamW at the default rates moves them by 1e-3 and more."""


class IdleLearningRate:
    """Weights that moved by less than 1e-5 of their size in 20 steps, twice, with a loss that stayed where it was.

    `warmup` steps are not looked at. Told once.
    """

    def __init__(self, warmup: int) -> None:
        self._warmup = warmup
        self._losses: deque[float] = deque(maxlen=2 * MEASURE_EVERY)
        self._still = 0
        self._told = False

    def step(self, seen: Observation) -> Finding | None:
        """What to say after this step."""
        if seen.step <= self._warmup:
            return None
        self._losses.append(seen.loss)
        if seen.movement is not None:
            self._still = self._still + 1 if seen.movement < _STILL else 0
        if self._told or seen.movement is None or self._still < 2 or not self._stands():
            return None
        self._told = True
        text = f"learning rate {seen.learning_rate:g} does nothing: in {MEASURE_EVERY} steps the weights moved by "
        text += f"{seen.movement:.1g} of their size, and the loss stays at {median(self._losses):.4g}"
        return Finding("LEARNING_RATE_WITHOUT_EFFECT", text, seen.step)

    def _stands(self) -> bool:
        values = list(self._losses)
        half = len(values) // 2
        before, now = median(values[:half]), median(values[half:])
        return before - now <= max(spread(values), 0.01 * abs(before))
