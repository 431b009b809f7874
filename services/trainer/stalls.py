"""Which ranks of a run do not move, and what their stacks say; used by the supervisor's loop. Standard library only."""

import dataclasses
from collections import deque
from collections.abc import Callable
from statistics import median

_TIMES_MEDIAN = 20.0
_RECENT, _FEWEST = 100, 3
_PATIENCE_AT_FIRST = 3.0
"""Nobody knows how long a step takes before there were a few."""
_STACK_SECONDS = 2.0
_MOST_LINES, _LONGEST_LINE = 50, 500


@dataclasses.dataclass(frozen=True, slots=True)
class Stall:
    """A rank that made no progress for a long time."""

    rank: int
    step: int
    """The last one it spoke of."""
    seconds: float
    """Since then."""
    usual: float | None
    """Seconds between two steps as a rule; None = not known."""
    lines: tuple[str, ...]
    """What the rank wrote when it was asked for its stacks, oldest first."""


@dataclasses.dataclass(slots=True)
class _Pulse:
    """Of one rank. A stall is `asked` about once, and told once."""

    step: int
    last: float
    last_step: float
    gaps: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=_RECENT))
    asked: float | None = None
    told: bool = False
    lines: list[str] = dataclasses.field(default_factory=list)


class StallWatch:
    """Ranks count from their first sign of life on. A stall is silence for 20 times the median time between two steps, and for
    `floor` seconds at least. `clock` is monotonic.
    """

    def __init__(self, floor: float, clock: Callable[[], float]) -> None:
        self._floor = floor
        self._clock = clock
        self._pulses: dict[int, _Pulse] = {}

    def beat(self, rank: int, step: int, phase: str) -> None:
        """A sign of life, of a step when the phase is empty; after the phase `end` there will be none."""
        now = self._clock()
        if phase == "end":
            self._pulses.pop(rank, None)
            return
        before = self._pulses.get(rank) or _Pulse(step, now, now)
        if not phase and now > before.last_step:
            before.gaps.append(now - before.last_step)
        self._pulses[rank] = _Pulse(step, now, before.last_step if phase else now, before.gaps)

    def heard(self, rank: int, line: str) -> None:
        """A line on a rank's standard error; what comes after the question is the answer."""
        pulse = self._pulses.get(rank)
        if pulse is not None and pulse.asked is not None and not pulse.told and len(pulse.lines) < _MOST_LINES:
            pulse.lines.append(line[:_LONGEST_LINE])

    def to_ask(self) -> list[int]:
        """Ranks whose stacks should be asked for now; each is named once per stall."""
        now = self._clock()
        silent = [rank for rank, pulse in self._pulses.items() if pulse.asked is None and now - pulse.last >= self._limit(pulse)]
        for rank in silent:
            self._pulses[rank].asked = now
        return silent

    def explained(self) -> list[Stall]:
        """Stalls whose ranks had time to answer; each is given once."""
        now, found = self._clock(), []
        for rank, pulse in self._pulses.items():
            if pulse.asked is not None and not pulse.told and now - pulse.asked >= _STACK_SECONDS:
                pulse.told = True
                usual = median(pulse.gaps) if len(pulse.gaps) >= _FEWEST else None
                found.append(Stall(rank, pulse.step, now - pulse.last, usual, tuple(pulse.lines)))
        return found

    def usual(self) -> float:
        """Seconds that a step takes as a rule, of the slowest rank; 0 = not known."""
        return max((median(pulse.gaps) for pulse in self._pulses.values() if len(pulse.gaps) >= _FEWEST), default=0.0)

    def forget(self) -> None:
        """The ranks start once more."""
        self._pulses.clear()

    def _limit(self, pulse: _Pulse) -> float:
        if len(pulse.gaps) < _FEWEST:
            return _PATIENCE_AT_FIRST * self._floor
        return max(self._floor, _TIMES_MEDIAN * median(pulse.gaps))


def stall_message(stall: Stall, condition: str) -> str:
    """One sentence with the numbers; `condition` is how the kernel sees the process."""
    usual = f", where {stall.usual:.3g} s are usual" if stall.usual is not None else ""
    stacks = "its stacks are below" if stall.lines else "it did not answer when asked for its stacks"
    text = f"rank {stall.rank} has made no progress for {stall.seconds:.0f} s after step {stall.step}{usual}"
    return f"{text}; it {condition}, {stacks}"
