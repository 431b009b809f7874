"""Adds up what happened between two metric events; used by the loop."""

from collections.abc import Callable


class Meter:
    """Loss and speed since the last reading, tokens since the start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = 0
        self._target_tokens = 0
        self._loss_sum = 0.0
        self._losses = 0
        self._timed_tokens = 0
        self._since = clock()

    def add(self, loss_sum: float, tokens: int, target_tokens: int) -> None:
        """One optimizer step has been applied."""
        self._loss_sum += loss_sum
        self._losses += target_tokens
        self._tokens += tokens
        self._target_tokens += target_tokens
        self._timed_tokens += tokens

    def read(self) -> dict[str, float]:
        """Values for a metric event; starts the next stretch. Call after at least one `add`."""
        now = self._clock()
        seconds = max(now - self._since, 1e-9)
        values = {
            "loss": self._loss_sum / self._losses,
            "tokens": float(self._tokens),
            "target_tokens": float(self._target_tokens),
            "tokens_per_second": self._timed_tokens / seconds,
        }
        self._loss_sum, self._losses, self._timed_tokens, self._since = 0.0, 0, 0, now
        return values

    def restart_clock(self) -> None:
        """Leave out the time since the last reading: it went into something else than training."""
        self._since = self._clock()
