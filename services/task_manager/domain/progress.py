"""How far a run has come and how long it still takes; kept by the follower of a run."""

import dataclasses
import datetime
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Where the newest attempt is; `metrics` holds the newest value of every metric."""

    step: int = 0
    total_steps: int = 0
    epoch: float = 0.0
    remaining: datetime.timedelta | None = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)


class ProgressTracker:
    """Follows one attempt; starts from what was stored when another process followed it before."""

    def __init__(self, stored: Progress | None) -> None:
        self._progress = stored
        self._pace_from: tuple[int, datetime.datetime] | None = None

    @property
    def progress(self) -> Progress | None:
        """The newest state, None before the first step is planned."""
        return self._progress

    def started(self, total_steps: int) -> None:
        """The training loop begins."""
        self._progress = Progress(total_steps=total_steps)
        self._pace_from = None

    def measured(
        self,
        step: int,
        values: Mapping[str, float],
        at: datetime.datetime,
        remaining: datetime.timedelta | None = None,
    ) -> None:
        """Metrics of one step; values that were not measured keep their newest value.

        The trainer knows best what `remaining`; when it does not say it, the pace between the events has to do.
        """
        pace = self._remaining(step, (self._progress or Progress()).total_steps, at)
        before = self._progress or Progress()
        self._progress = dataclasses.replace(
            before,
            step=step,
            epoch=values.get("epoch", before.epoch),
            metrics={**before.metrics, **values},
            remaining=pace if remaining is None else remaining,
        )

    def _remaining(self, step: int, total_steps: int, at: datetime.datetime) -> datetime.timedelta | None:
        if self._pace_from is None or step < self._pace_from[0]:
            self._pace_from = (step, at)
        first_step, first_at = self._pace_from
        if step <= first_step or total_steps < step:
            return None
        return max(at - first_at, datetime.timedelta()) / (step - first_step) * (total_steps - step)
