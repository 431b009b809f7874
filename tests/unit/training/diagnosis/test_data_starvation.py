"""A device that waits for its data: when it is told, and when it is not."""

import pytest

from services.trainer.training.diagnosis.data_starvation import DataStarvation


def told(waits, seconds=1.0):
    """The steps at which something was said."""
    detector = DataStarvation()
    return [finding.step for step, wait in enumerate(waits, 1) if (finding := detector.step(step, wait, seconds))]


@pytest.mark.parametrize(("share", "expected"), [(0.0, []), (0.25, []), (0.3, [25]), (0.9, [25])])
def test_a_quarter_of_the_time_is_too_much_and_is_told_once(share, expected):
    assert told([share] * 100) == expected


def test_the_first_steps_do_not_count():
    assert told([0.99] * 5 + [0.1] * 100) == []


def test_a_few_slow_batches_are_nothing():
    assert told(([0.9] + [0.05] * 9) * 10) == []


def test_it_may_begin_late():
    assert told([0.01] * 60 + [0.8] * 40) == [67]


def test_without_time_there_is_nothing_to_say():
    assert told([0.0] * 50, seconds=0.0) == []


def test_the_message_has_the_numbers():
    detector = DataStarvation()
    found = [finding for step in range(1, 40) if (finding := detector.step(step, 0.5, 2.0 / 3))]
    assert found[0].reason == "DATA_STARVATION"
    assert "making batches took 75% of the last 20 steps, 0.5 s of 0.667 s each" in found[0].message
