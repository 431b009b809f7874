"""How much the processes of a run may print: a flood must not fill the disk while nobody fetches the journal; used by RankOutput.

A bucket: 64 MiB at once, and 32 KiB a second for as long as the run takes, which is far more than anybody reads. With all of it
used, an hour without a task manager costs 180 MiB of disk.
"""

from collections.abc import Callable

BURST_BYTES = 64 * 1024**2
BYTES_PER_SECOND = 32 * 1024
_OF_EVERY_LINE = 150
"""Bytes that a line takes in the journal beside its text."""


class LogRoom:
    """`clock` gives seconds and never goes back."""

    def __init__(self, clock: Callable[[], float], *, burst: int = BURST_BYTES, rate: int = BYTES_PER_SECOND) -> None:
        self._clock = clock
        self._burst = burst
        self._rate = rate
        self._room = float(burst)
        self._since = clock()
        self._left_out = 0

    def takes(self, text: str) -> bool:
        """Whether a line may be written down; one that may not is counted."""
        now = self._clock()
        self._room = min(self._burst, self._room + (now - self._since) * self._rate)
        self._since = now
        size = len(text) + _OF_EVERY_LINE
        if size > self._room:
            self._left_out += 1
            return False
        self._room -= size
        return True

    def take_left_out(self) -> int:
        """Lines left out since this was asked last."""
        count, self._left_out = self._left_out, 0
        return count
