"""What the benchmark of a whole run reads out of its events."""

import pytest

from tests.bench.running import STEPS, expectation_error, saving_seconds
from tunesmith.v1.task_event_pb2 import TaskEvent


def step(number: int, seconds: float, speed: float = 100.0, remaining: float | None = None) -> TaskEvent:
    """After 50 tokens more."""
    event = TaskEvent()
    event.time.FromNanoseconds(round(seconds * 1e9))
    event.step_metrics.step = number
    event.step_metrics.values.update(loss=1.0, tokens=50.0 * number, tokens_per_second=speed)
    if remaining is not None:
        event.step_metrics.remaining.FromNanoseconds(round(remaining * 1e9))
    return event


def test_a_save_is_what_lies_between_steps_beyond_what_always_does() -> None:
    # A step takes half a second, and always 10 ms beside; those after steps 2 and 4 had to wait for a checkpoint.
    times = [1.0, 1.51, 2.22, 2.73, 3.34, 3.85]
    steps = [step(number, seconds) for number, seconds in enumerate(times, start=1)]
    assert saving_seconds(steps, {2, 4}) == pytest.approx(0.15)


@pytest.mark.parametrize(("told", "error"), [(54.0, 0.0), (67.5, 0.25), (27.0, 0.5)])
def test_the_expected_time_is_judged_after_a_tenth_of_the_steps(told: float, error: float) -> None:
    tenth = STEPS // 10
    steps = [step(number, float(number), remaining=told if number == tenth else 1.0) for number in range(1, STEPS + 1)]
    assert STEPS - tenth == 54
    assert expectation_error(steps) == pytest.approx(error)
