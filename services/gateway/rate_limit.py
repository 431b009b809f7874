"""How many requests may come: a bucket that fills at a steady rate; used by the edge."""

import time
from collections.abc import Callable

from services.common.errors import ServiceError


class RateLimit:
    """`per_second` on average; a second's worth may come at once. 0 = no limit."""

    def __init__(self, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._room = max(1.0, per_second)
        self._left = self._room
        self._now = now
        self._filled = now()

    def take(self) -> None:
        """One request; raises ServiceError (RATE_LIMITED) with the milliseconds to wait."""
        if not self._per_second:
            return
        now = self._now()
        self._left = min(self._room, self._left + (now - self._filled) * self._per_second)
        self._filled = now
        if self._left < 1:
            wait = (1 - self._left) / self._per_second
            message = f"more than {self._per_second:g} requests a second"
            raise ServiceError("RATE_LIMITED", message, metadata={"retry_after_ms": str(round(wait * 1000))})
        self._left -= 1
