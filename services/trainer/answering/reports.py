"""What a run that asks models tells while it runs: one JSON object a line on an inherited pipe, as the supervisor reads it."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.common.errors import ServiceError

_MOST_TOLD = 200
"""So many times a run tells how far it is."""
_LONGEST = 2000


class Reports:
    """Writes to a file descriptor; the only process of its run does."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def started(self, total: int, done: int, models: Sequence[str]) -> None:
        """The first question comes next."""
        self._write({"kind": "answering_started", "total_answers": total, "resumed_answers": done, "models": list(models)})

    def metrics(self, step: int, values: Mapping[str, float], remaining: float | None) -> None:
        """How far it is; `remaining` seconds to the end."""
        outlook = {} if remaining is None else {"remaining_seconds": remaining}
        self._write({"kind": "metrics", "step": step, "values": dict(values)} | outlook)

    def beat(self, step: int, phase: str = "") -> None:
        """The run moves."""
        self._write({"kind": "beat", "step": step, "phase": phase})

    def failure(self, error: ServiceError) -> None:
        """The run ends here."""
        told = {"reason": error.reason, "message": error.message[:_LONGEST], "error_class": error.error_class.value}
        self._write({"kind": "failure", **told, "hint": error.hint, "step": 0, "metadata": error.metadata})

    def _write(self, record: Mapping[str, Any]) -> None:
        rest = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class Progress:
    """Counts answers and tells of them, now and then and of the last one. `clock` is monotonic."""

    def __init__(self, reports: Reports, total: int, done: int, clock: Callable[[], float]) -> None:
        self._reports = reports
        self._total, self._done, self._resumed = total, done, done
        self._every = max(1, total // _MOST_TOLD)
        self._clock, self._begin = clock, clock()
        self._of_part: dict[str, int] = {}

    def counter(self, part: str, done: int) -> Callable[[], None]:
        """What is to be called after each answer of a part, for example of one model, which had so many already."""
        self._of_part[part] = done

        def count() -> None:
            self._of_part[part] += 1
            self._done += 1
            self._reports.beat(self._done)
            if self._done % self._every == 0 or self._done == self._total:
                self._tell()

        return count

    def _tell(self) -> None:
        seconds = self._clock() - self._begin
        pace = (self._done - self._resumed) / seconds if seconds > 0 else 0.0
        values = {f"{part}_answers": float(count) for part, count in self._of_part.items()} | {"answers": float(self._done)}
        if pace:
            values["answers_per_second"] = pace
        self._reports.metrics(self._done, values, (self._total - self._done) / pace if pace else None)
