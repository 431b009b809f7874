"""Adds up what happened between two metric events; used by the loop."""

import contextlib
from collections.abc import Callable, Iterator

from services.trainer.training.pace import Pace
from services.trainer.training.progress import Totals
from services.trainer.training.sums import Sums


class Meter:
    """Loss, metrics and speed since the last reading, tokens since the start. `totals` is kept up to date and outlives it."""

    def __init__(self, clock: Callable[[], float], totals: Totals) -> None:
        self._clock = clock
        self._totals = totals
        self._pace = Pace()
        self._timed_tokens = 0
        self._since = self._last_step = clock()

    def add(self, sums: Sums, tokens: int, target_tokens: int) -> None:
        """One optimizer step has been applied."""
        totals = self._totals
        totals.sums = totals.sums + sums if totals.sums else sums
        totals.tokens += tokens
        totals.target_tokens += target_tokens
        self._timed_tokens += tokens
        now = self._clock()
        self._pace.step(now - self._last_step)
        self._last_step = now

    def read(self) -> dict[str, float]:
        """Values for a metric event; starts the next stretch. Call after at least one `add`."""
        assert self._totals.sums is not None
        now = self._clock()
        seconds = max(now - self._since, 1e-9)
        values = self._totals.sums.means() | {
            "tokens": float(self._totals.tokens),
            "target_tokens": float(self._totals.target_tokens),
            "tokens_per_second": self._timed_tokens / seconds,
        }
        self._totals.sums, self._timed_tokens, self._since = None, 0, now
        return values

    def remaining(self, steps: int, evaluations: int, evaluation_in_steps: float) -> float | None:
        """Seconds for so many more steps and evaluations; None while the pace is not known. See Pace."""
        return self._pace.remaining(steps, evaluations, evaluation_in_steps)

    @contextlib.contextmanager
    def paused(self, kind: str) -> Iterator[None]:
        """Leaves out the time inside: it goes into something else than training."""
        began = self._clock()
        yield
        seconds = self._clock() - began
        self._since += seconds
        self._last_step += seconds
        self._pace.pause(kind, seconds)
