"""A loss that falls no more though it could."""

from collections import deque

from services.trainer.training.diagnosis.observation import Finding, Observation
from services.trainer.training.diagnosis.robust import median, spread

_HALF = 100
_LEAST_GAIN = 0.005
_LEARNED = 0.05
"""Nats: below this there is nothing left to learn, and standing still is success."""
_STILL_LEARNING = 0.2
_EVERY = 20


class Plateau:
    """The median loss of 100 steps is not lower than that of the 100 before, at a learning rate that should still move it.

    `peak` is the highest learning rate of the schedule. Told once.
    """

    def __init__(self, peak: float) -> None:
        self._peak = peak
        self._losses: deque[float] = deque(maxlen=2 * _HALF)
        self._told = False

    def step(self, seen: Observation) -> Finding | None:
        """What to say after this step."""
        self._losses.append(seen.loss)
        if self._told or seen.step % _EVERY or len(self._losses) < 2 * _HALF or seen.learning_rate < _STILL_LEARNING * self._peak:
            return None
        values = list(self._losses)
        before, now = median(values[:_HALF]), median(values[_HALF:])
        # The error of a median of 100 noisy values; a fall within it may still be one.
        error = 1.25 * spread(values[_HALF:]) / _HALF**0.5
        if now < _LEARNED or before - now > max(_LEAST_GAIN * abs(before) - error, 0.0):
            return None
        self._told = True
        text = f"the loss has not fallen for {2 * _HALF} steps: its median was {before:.4g} and is {now:.4g}"
        return Finding("LOSS_PLATEAU", f"{text} at learning rate {seen.learning_rate:g}", seen.step)
