"""How long a run still takes, from how long its steps and its pauses took; used by the meter."""

from collections import deque
from statistics import fmean, median

_RECENT = 256
# A hiccup of the machine says nothing about the steps to come; rows of other lengths do.
_OUTLIER = 4.0


class Pace:
    """Takes durations in seconds."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self._pauses: dict[str, deque[float]] = {}
        self._step_count = 0

    def step(self, seconds: float) -> None:
        """An optimizer step without its pauses. The first one warms caches and is forgotten when there is another."""
        if self._step_count == 1:
            self._steps.clear()
        self._step_count += 1
        self._steps.append(seconds)

    def pause(self, kind: str, seconds: float) -> None:
        """Time that went into something else than steps."""
        self._pauses.setdefault(kind, deque(maxlen=_RECENT)).append(seconds)

    def remaining(self, steps: int, evaluations: int, evaluation_in_steps: float) -> float | None:
        """Seconds for so many more steps and evaluations; None before there are two steps.

        `evaluation_in_steps`: as how many steps one counts, as long as none was measured. Checkpoints are taken to come as often
        as so far.
        """
        if self._step_count < 2:
            return None
        step = _typical(self._steps)
        evaluation = _typical(self._pauses["evaluation"]) if "evaluation" in self._pauses else evaluation_in_steps * step
        saving = sum(self._pauses.get("saving", ())) / self._step_count
        return steps * (step + saving) + evaluations * evaluation


def _typical(durations: deque[float]) -> float:
    """Their mean without outliers: steps of different lengths add up by their mean, which one hiccup would spoil."""
    limit = _OUTLIER * median(durations)
    return fmean(duration for duration in durations if duration <= limit)
