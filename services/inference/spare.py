"""Whether a model may be loaded before anybody asks it, so that nothing that is needed gives way; used by the registry."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Spare:
    """Models of at most `max_bytes` are loaded ahead, 0 = none; `available_bytes` has the machine now, 0 = not known."""

    max_bytes: int = 0
    available_bytes: Callable[[], int] = lambda: 0

    def refusal(self, size: int, free: int) -> str:
        """Why a model of `size` bytes is not loaded ahead while `free` bytes of the limit are not in use; empty = it is."""
        if size > self.max_bytes:
            return f"it takes {size:,} bytes; at most {self.max_bytes:,} are loaded ahead"
        if size > free:
            return f"it takes {size:,} bytes; {max(0, free):,} are not in use"
        available = self.available_bytes()
        # What runs on this machine meanwhile may still grow.
        if available and 2 * size > available:
            return f"it takes {size:,} bytes; this machine has {available:,} left, of which half are not touched"
        return ""
