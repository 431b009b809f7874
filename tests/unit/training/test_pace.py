"""The time that remains, against runs whose end is known."""

import itertools
import random

import pytest

from services.trainer.training.pace import Pace


def test_before_two_steps_nothing_is_known():
    pace = Pace()
    assert pace.remaining(10, 0, 0.0) is None
    pace.step(9.0)
    assert pace.remaining(10, 0, 0.0) is None
    pace.step(1.0)
    assert pace.remaining(10, 0, 0.0) == 10.0, "the first step warms up and says nothing"


def test_an_evaluation_is_guessed_in_steps_until_one_was_measured():
    pace = Pace()
    for _ in range(3):
        pace.step(2.0)
    assert pace.remaining(5, 2, 1.5) == 5 * 2 + 2 * 3
    pace.pause("evaluation", 10.0)
    assert pace.remaining(5, 2, 1.5) == 5 * 2 + 2 * 10


def test_checkpoints_are_taken_to_come_as_often_as_so_far():
    pace = Pace()
    for _ in range(10):
        pace.step(1.0)
    pace.pause("saving", 5.0)
    assert pace.remaining(20, 0, 0.0) == 20 * 1.5


def test_a_hiccup_of_the_machine_does_not_spoil_it():
    pace = Pace()
    for seconds in [1.0] * 20 + [500.0] + [1.0] * 20:
        pace.step(seconds)
    assert pace.remaining(100, 0, 0.0) == 100.0


@pytest.mark.parametrize("seed", range(20))
def test_after_a_tenth_of_the_steps_it_is_right_within_15_percent(seed):
    """Batches of different lengths, validations, checkpoints, a slow start and a machine that does other things as well."""
    chance = random.Random(seed)
    total, evaluate_every, save_every = 400, 20, 50
    steps = [0.2 + chance.lognormvariate(0, 0.3) + (chance.random() < 0.003) * 10 for _ in range(total)]
    steps[0] = 30.0
    evaluations = [8.0 + chance.random() for _ in range(total // evaluate_every)]
    pace, expected, truth = Pace(), None, 0.0
    for index, seconds in enumerate(steps, start=1):
        pace.step(seconds)
        truth += (expected is not None) * seconds
        for every, kind, duration in ((evaluate_every, "evaluation", evaluations[0]), (save_every, "saving", 0.5)):
            if index % every == 0:
                pace.pause(kind, duration)
                truth += (expected is not None) * duration
        if index == total // 10:
            expected = pace.remaining(total - index, (total - index) // evaluate_every, 0.0)
    assert expected == pytest.approx(truth, rel=0.15)


def test_it_moves_smoothly_from_step_to_step():
    chance, pace, told = random.Random(3), Pace(), []
    for index in range(1, 201):
        pace.step(1.0 + chance.random() * 0.4)
        told.append(pace.remaining(200 - index, 0, 0.0))
    jumps = [abs(after - (before - 1.2)) / max(before, 10) for before, after in itertools.pairwise(told[20:])]
    assert max(jumps) < 0.05
