"""Whether a model may be loaded before anybody asks it, so that nothing that is needed gives way; used by the registry."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Spare:
    """Models of at most `max_bytes` are loaded ahead, 0 = none; `available_bytes` has the machine now, 0 = not known.

    `set_aside` bytes are taken beside a model's weights.
    """

    max_bytes: int = 0
    available_bytes: Callable[[], int] = lambda: 0
    set_aside: int = 0

    def refusal(self, size: int, free: int, device: int = 0) -> str:
        """Why a model of `size` bytes is not loaded ahead while `free` bytes of the limit are not in use; empty = it is.

        `device` = free bytes of the device that it goes to, 0 = that is the machine's memory.
        """
        if size > self.max_bytes:
            return f"it takes {size:,} bytes; at most {self.max_bytes:,} are loaded ahead"
        if size > free:
            return f"it takes {size:,} bytes; {max(0, free):,} are not in use"
        taken = size + self.set_aside
        for place, left in (("this machine", self.available_bytes()), ("its device", device)):
            # What runs there meanwhile may still grow.
            if left and 2 * taken > left:
                return f"it takes {taken:,} bytes; {place} has {left:,} left, of which half are not touched"
        return ""
