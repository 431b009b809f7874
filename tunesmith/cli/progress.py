"""One line that says how far a file has come, how fast, and how long it will take; drawn on a terminal, silent elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunesmith.cli.output import duration, size

LONG_FILE_BYTES = 20_000_000
"""A check of less than this is over before a bar is seen."""
_CELLS = 20
_REDRAW_SECONDS = 0.1
Progress = Callable[[int, int], None]


@contextmanager
def transfer_progress(label: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Progress | None]:
    """A callback that takes bytes done and bytes in all (0 = not known); None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    line = _Line(label, clock)
    try:
        yield line.draw
    finally:
        line.end()


class _Line:
    def __init__(self, label: str, clock: Callable[[], float]) -> None:
        self._label = label
        self._clock = clock
        self._started = clock()
        self._drawn_at = -_REDRAW_SECONDS
        self._drawn = False

    def draw(self, done: int, total: int) -> None:
        now = self._clock()
        if now - self._drawn_at < _REDRAW_SECONDS and done != total:
            return
        self._drawn_at, self._drawn = now, True
        print(f"\r{progress_text(self._label, done, total, now - self._started)}\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._drawn:
            print(file=sys.stderr, flush=True)


def progress_text(label: str, done: int, total: int, seconds: float) -> str:
    """`train.jsonl ━━━━━━━━━━────────── 50%  150.0 MB of 300.0 MB  75.0 MB/s  ETA 0:02`."""
    speed = done / seconds if seconds > 0 else 0.0
    pace = f"  {size(speed)}/s" if speed else ""
    if not total:
        return f"{label}  {size(done)}{pace}"
    filled = min(_CELLS, _CELLS * done // total)
    left = f"  ETA {duration((total - done) / speed)}" if speed and done < total else ""
    return f"{label} {'━' * filled}{'─' * (_CELLS - filled)} {done / total:.0%}  {size(done)} of {size(total)}{pace}{left}"
