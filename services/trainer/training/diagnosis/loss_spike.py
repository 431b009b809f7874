"""A loss far above what it was lately."""

from collections import deque

from services.trainer.training.diagnosis.observation import MOST_ROWS, Finding, Observation, named
from services.trainer.training.diagnosis.robust import median, spread

_WINDOW, _FEWEST = 64, 16
_HIGH, _IN_A_ROW = 6.0, 3
_EXTREME = 20.0
# A loss that hardly moves would make a spike of every trifle.
_LEAST_SPREAD = 0.02


class LossSpike:
    """The loss is above median + 6 spreads of the last 64 steps for 3 steps, or above median + 20 spreads for one.

    High losses do not become part of what is normal, and one spike is told once.
    """

    def __init__(self) -> None:
        self._normal: deque[float] = deque(maxlen=_WINDOW)
        self._high: list[Observation] = []
        self._told = False

    def step(self, seen: Observation) -> Finding | None:
        """What to say after this step."""
        if len(self._normal) < _FEWEST:
            self._normal.append(seen.loss)
            return None
        middle = median(self._normal)
        distance = (seen.loss - middle) / max(spread(self._normal), _LEAST_SPREAD * abs(middle), 1e-6)
        if distance < _HIGH:
            self._normal.append(seen.loss)
            self._high, self._told = [], False
            return None
        self._high.append(seen)
        if self._told or (len(self._high) < _IN_A_ROW and distance < _EXTREME):
            self._settle()
            return None
        self._told = True
        return self._finding(seen, middle)

    def _settle(self) -> None:
        """After as many steps as the window has, the new height is what is normal."""
        if len(self._high) >= _WINDOW:
            self._normal.extend(seen.loss for seen in self._high)
            self._high = []

    def _finding(self, seen: Observation, middle: float) -> Finding:
        rows = tuple(sorted({row for high in self._high for row in high.rows}))[:MOST_ROWS]
        count = len(self._normal)
        text = f"the loss is {seen.loss:.4g} at step {seen.step}; the median of {count} steps before is {middle:.4g}"
        return Finding("LOSS_SPIKE", f"{text}; it saw {named(rows)}" if rows else text, seen.step, rows)
