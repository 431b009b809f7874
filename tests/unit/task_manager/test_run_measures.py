"""What events tell about progress: many at once the same as one by one."""

import datetime

from hypothesis import given
from hypothesis import strategies as st

from services.task_manager.domain.progress import Progress
from services.task_manager.run_measures import RunMeasures
from tunesmith.v1 import task_event_pb2

VALUES = st.dictionaries(st.sampled_from(["loss", "epoch", "tokens", "tokens_per_second"]), st.floats(0, 1e6), max_size=4)


def metrics(step: int, values: dict[str, float], seconds_left: int | None = 60) -> task_event_pb2.TaskEvent:
    event = task_event_pb2.TaskEvent(step_metrics=task_event_pb2.StepMetrics(step=step, values=values))
    event.time.FromSeconds(1_000_000 + step)
    if seconds_left is not None:
        event.step_metrics.remaining.FromSeconds(seconds_left)
    return event


def started(total_steps: int = 50) -> task_event_pb2.TaskEvent:
    return task_event_pb2.TaskEvent(training_started=task_event_pb2.TrainingStarted(total_steps=total_steps))


@given(st.lists(VALUES, max_size=12), st.integers(1, 12))
def test_it_does_not_matter_how_many_events_come_at_once(values: list[dict[str, float]], at_once: int) -> None:
    events = [metrics(step, one) for step, one in enumerate(values, 1)]
    one_by_one, together = RunMeasures(None), RunMeasures(None)
    for measures, size in ((one_by_one, 1), (together, at_once)):
        measures.observe([started()])
        for first in range(0, len(events), size):
            measures.observe(events[first : first + size])

    assert together.progress == one_by_one.progress
    assert together.tokens_per_second == one_by_one.tokens_per_second


def test_the_pace_counts_from_the_first_of_many() -> None:
    measures = RunMeasures(None)
    measures.observe([started(11), *(metrics(step, {}, None) for step in range(1, 7))])

    assert measures.progress
    assert measures.progress.remaining == datetime.timedelta(seconds=5)


def test_another_beginning_forgets_and_what_was_stored_goes_on() -> None:
    measures = RunMeasures(Progress(step=4, total_steps=9, metrics={"loss": 1.0}))
    measures.observe([metrics(5, {"grad_norm": 2.0})])
    assert measures.progress
    assert (measures.progress.step, measures.progress.metrics) == (5, {"loss": 1.0, "grad_norm": 2.0})

    measures.observe([started(7)])
    assert measures.progress == Progress(total_steps=7)
    measures.observe([])
    measures.observe([task_event_pb2.TaskEvent(log_entry=task_event_pb2.LogEntry(text="x"))])
    assert measures.progress == Progress(total_steps=7)
