"""Adds up what happened between two metric events; used by the loop."""

import contextlib
from collections.abc import Callable, Iterator

from services.trainer.training.progress import Totals


class Meter:
    """Loss and speed since the last reading, tokens since the start. `totals` is kept up to date and outlives the meter."""

    def __init__(self, clock: Callable[[], float], totals: Totals) -> None:
        self._clock = clock
        self._totals = totals
        self._timed_tokens = 0
        self._since = clock()

    def add(self, loss_sum: float, tokens: int, target_tokens: int) -> None:
        """One optimizer step has been applied."""
        self._totals.loss_sum += loss_sum
        self._totals.losses += target_tokens
        self._totals.tokens += tokens
        self._totals.target_tokens += target_tokens
        self._timed_tokens += tokens

    def read(self) -> dict[str, float]:
        """Values for a metric event; starts the next stretch. Call after at least one `add`."""
        now = self._clock()
        seconds = max(now - self._since, 1e-9)
        values = {
            "loss": self._totals.loss_sum / self._totals.losses,
            "tokens": float(self._totals.tokens),
            "target_tokens": float(self._totals.target_tokens),
            "tokens_per_second": self._timed_tokens / seconds,
        }
        self._totals.loss_sum, self._totals.losses, self._timed_tokens, self._since = 0.0, 0, 0, now
        return values

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves out the time inside: it goes into something else than training."""
        began = self._clock()
        yield
        self._since += self._clock() - began
