"""What the events of a run tell about its progress and its speed; kept by the follower of the run."""

from collections.abc import Mapping, Sequence

from services.task_manager.domain.progress import Progress, ProgressTracker
from services.task_manager.domain.throughput import SpeedMeter
from tunesmith.v1 import task_event_pb2


class RunMeasures:
    """Starts from the progress that was stored when another process followed the run before."""

    def __init__(self, stored: Progress | None) -> None:
        self._tracker = ProgressTracker(stored)
        self._meter = SpeedMeter()

    @property
    def progress(self) -> Progress | None:
        """The newest, None before the first step is planned."""
        return self._tracker.progress

    @property
    def tokens_per_second(self) -> float | None:
        """See SpeedMeter."""
        return self._meter.tokens_per_second

    def observe(self, events: Sequence[task_event_pb2.TaskEvent]) -> None:
        """Events in order; only the first may begin the work."""
        if events and events[0].HasField("training_started"):
            self._tracker.started(events[0].training_started.total_steps)
            self._meter.started(events[0].training_started.resumed_step)
        elif events and events[0].HasField("answering_started"):
            self._tracker.started(events[0].answering_started.total_answers)
        steps = [event for event in events if event.HasField("step_metrics")]
        for event in steps:
            self._meter.measured(event.step_metrics.values)
        # The pace needs the first and the newest; what lies between them only adds names.
        for event, values in ((steps[0], {}), (steps[-1], _newest(steps))) if steps else ():
            metrics = event.step_metrics
            remaining = metrics.remaining.ToTimedelta() if metrics.HasField("remaining") else None
            self._tracker.measured(metrics.step, values, event.time.ToDatetime(), remaining)


def _newest(steps: Sequence[task_event_pb2.TaskEvent]) -> Mapping[str, float]:
    """The newest value of every metric; most events bring the same ones, so the newest is read first."""
    found: dict[str, float] = {}
    for event in reversed(steps):
        values = event.step_metrics.values
        if not found.keys() >= values.keys():
            found = {**values, **found}
    return found
