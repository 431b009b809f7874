"""A device that waits for its data."""

from collections import deque

from services.trainer.training.diagnosis.observation import Finding

_STEPS = 20
_SHARE = 0.25
_FIRST = 5
"""Steps that are not looked at: everything takes longer then."""


class DataStarvation:
    """Making batches took more than a quarter of the time of the last 20 steps. Told once."""

    def __init__(self) -> None:
        self._seen = 0
        self._times: deque[tuple[float, float]] = deque(maxlen=_STEPS)
        self._told = False

    def step(self, step: int, waited: float, seconds: float) -> Finding | None:
        """What to say after a step of `seconds`, of which `waited` went into making batches."""
        self._seen += 1
        if self._seen > _FIRST:
            self._times.append((waited, seconds))
        waits, total = (sum(column) for column in zip(*self._times, strict=True)) if self._times else (0.0, 0.0)
        if self._told or len(self._times) < _STEPS or waits <= _SHARE * total:
            return None
        self._told = True
        text = f"training waits for its data: making batches took {waits / total:.0%} of the last {_STEPS} steps"
        return Finding("DATA_STARVATION", f"{text}, {waits / _STEPS:.3g} s of {total / _STEPS:.3g} s each", step)
