"""A trainer in the simulation: keeps runs and their journals, is away at times, and may lose everything it has.

A strict one ends its runs when nobody has asked it for anything for long.
"""

import dataclasses
import random
from collections.abc import Callable

from services.task_manager.domain.task import State


class Away(Exception):
    """No answer; what was asked for may have been done all the same."""


class NotFound(Exception):
    """It has no such run."""


class Ahead(Exception):
    """The run has fewer events than the reader."""


class Refused(Exception):
    """No room, or a newer attempt is known."""


@dataclasses.dataclass(slots=True)
class Run:
    """`journal` counts its events; `end` None = it lives."""

    processes: int
    length: int
    journal: int = 0
    end: State | None = None
    is_cancelled: bool = False
    is_paused: bool = False


FENCE = 12
"""A strict trainer ends its runs after so long a silence."""
_STILL_REACHED = 4
"""So long are calls still done whose answers do not come back."""


class Trainer:
    """Runs by (task, attempt). `clock` tells the time that the kernel counts."""

    def __init__(self, chance: random.Random, total: int, clock: Callable[[], int], *, is_strict: bool) -> None:
        self._chance = chance
        self._clock = clock
        self.total = total
        self.is_strict = is_strict
        self.runs: dict[tuple[int, int], Run] = {}
        self.is_away = False
        self._newest: dict[int, int] = {}
        self._away_since = self._heard = 0
        self.answered = 0
        """When somebody last had an answer, as all task managers know."""

    def come_or_go(self) -> None:
        """Out of reach, or back."""
        self.is_away, self._away_since = not self.is_away, self._clock()

    def free(self) -> int:
        self.answer()
        return self.total - sum(run.processes for run in self.runs.values() if run.end is None)

    def start(self, name: tuple[int, int], processes: int) -> None:
        if self.is_away and (self._chance.random() < 0.5 or self._clock() - self._away_since > _STILL_REACHED):
            raise Away
        self._hear()
        if name not in self.runs:
            taken = sum(run.processes for run in self.runs.values() if run.end is None)
            if name[1] < self._newest.get(name[0], 0) or taken + processes > self.total:
                raise Refused
            self._newest[name[0]] = name[1]
            self.runs[name] = Run(processes, 1 + int(self._chance.random() * 5))
        self.answer()

    def follow(self, name: tuple[int, int], after: int) -> tuple[list[int], Run]:
        """Some of the events behind the cursor, and the run as it is."""
        self.answer()
        if name not in self.runs:
            raise NotFound
        run = self.runs[name]
        if after > run.journal:
            raise Ahead
        until = after + int(self._chance.random() * (run.journal - after + 1))
        return list(range(after + 1, until + 1)), dataclasses.replace(run)

    def ask(self, name: tuple[int, int], *, to_pause: bool = False) -> None:
        """For the end of a run, or for a rest."""
        self.answer()
        if run := self.runs.get(name):
            run.is_paused |= to_pause
            run.is_cancelled |= not to_pause

    def answer(self) -> None:
        if self.is_away:
            raise Away
        self._hear()
        self.answered = self._clock()

    def _hear(self) -> None:
        self._fence()
        self._heard = self._clock()

    def _fence(self) -> None:
        """What time has done since anybody looked."""
        if self.is_strict and self._clock() - self._heard >= FENCE:
            for run in self.runs.values():
                run.end = run.end or State.PAUSED

    def computing(self) -> set[tuple[int, int]]:
        """The runs that live."""
        self._fence()
        return {name for name, run in self.runs.items() if run.end is None}

    def progress(self) -> None:
        """Each run that lives takes a step."""
        self._fence()
        for run in self.runs.values():
            if run.end is not None:
                continue
            if run.is_cancelled:
                run.end = State.CANCELLED
            elif run.is_paused:
                run.end = State.PAUSED
            elif run.journal < run.length:
                run.journal += 1
            else:
                run.end = State.SUCCEEDED if self._chance.random() < 0.8 else State.FAILED
