"""Each diagnosis of steps and validations: the fault it is for, put in, and the like of it that is none."""

import math
import random

import pytest
from training_configs import numbers
from training_examples import example

from services.trainer.training.diagnosis.detectors import Detectors
from services.trainer.training.diagnosis.idle_learning_rate import MEASURE_EVERY, IdleLearningRate
from services.trainer.training.diagnosis.loss_spike import LossSpike
from services.trainer.training.diagnosis.observation import Observation, named, rows_of
from services.trainer.training.diagnosis.overfitting import Overfitting
from services.trainer.training.diagnosis.plateau import Plateau
from services.trainer.training.diagnosis.robust import spread
from services.trainer.training.diagnosis.without_targets import without_targets


def noisy(count, level, noise=0.1, seed=1):
    """Losses around `level`, a number or a function of the step."""
    chance = random.Random(seed)
    return [(level(step) if callable(level) else level) + chance.gauss(0, noise) for step in range(1, count + 1)]


def watched(detector, losses, *, rate=1e-3, movement=lambda step: None):
    """[(step, finding)] over a run with these losses; the rows of step n are n and n + 1."""
    found = []
    for step, loss in enumerate(losses, start=1):
        finding = detector.step(Observation(step, loss, 1.0, rate, (step, step + 1), movement(step)))
        found += [(step, finding)] if finding else []
    return found


def falling(step):
    return 1.0 + 2.0 * math.exp(-step / 60)


class TestLossSpike:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_run_that_learns_with_noise_has_none(self, seed):
        assert watched(LossSpike(), noisy(400, falling, noise=0.2, seed=seed)) == []

    def test_three_high_steps_are_one_and_it_is_told_once_with_its_rows(self):
        losses = noisy(100, 2.0)
        losses[70:76] = [3.5] * 6
        [(step, finding)] = watched(LossSpike(), losses)
        assert (step, finding.reason, finding.step) == (73, "LOSS_SPIKE", 73)
        assert finding.rows == (71, 72, 73, 74)
        assert "3.5 at step 73" in finding.message

    def test_one_or_two_high_steps_are_none(self):
        losses = noisy(100, 2.0)
        losses[70:72] = [3.5] * 2
        losses[80] = 3.5
        assert watched(LossSpike(), losses) == []

    def test_one_extreme_step_is_one(self):
        losses = noisy(100, 2.0)
        losses[70] = 40.0
        [(step, finding)] = watched(LossSpike(), losses)
        assert (step, finding.rows) == (71, (71, 72))

    def test_a_second_spike_is_told_too(self):
        losses = noisy(200, 2.0)
        losses[70] = losses[150] = 40.0
        assert [step for step, _ in watched(LossSpike(), losses)] == [71, 151]

    def test_a_loss_that_stays_high_becomes_normal_and_is_told_once(self):
        losses = noisy(60, 2.0) + noisy(300, 6.0)
        losses[250] = 100.0
        assert [step for step, _ in watched(LossSpike(), losses)] == [61, 251]

    def test_a_loss_of_nearly_nothing_is_not_made_a_spike_by_a_trifle(self):
        assert watched(LossSpike(), [1e-4] * 50 + [1.05e-4] * 5) == []

    def test_before_it_knows_what_is_normal_it_says_nothing(self):
        assert watched(LossSpike(), [2.0, 50.0, 2.0, 80.0]) == []


class TestPlateau:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_loss_that_stands_still_is_told_once(self, seed):
        [(step, finding)] = watched(Plateau(1e-3), noisy(600, 2.0, seed=seed))
        assert 200 <= step <= 400
        assert finding.reason == "LOSS_PLATEAU"
        assert "0.001" in finding.message

    @pytest.mark.parametrize("seed", range(5))
    def test_a_loss_that_falls_slowly_under_noise_is_none(self, seed):
        assert watched(Plateau(1e-3), noisy(600, lambda step: 3 - step / 400, seed=seed)) == []

    def test_nothing_is_left_to_learn(self):
        assert watched(Plateau(1e-3), noisy(600, 0.01, noise=0.001)) == []

    def test_a_learning_rate_that_has_decayed_moves_nothing_and_is_no_plateau(self):
        assert watched(Plateau(1e-3), noisy(600, 2.0), rate=1e-4) == []


class TestOverfitting:
    @staticmethod
    def told(*losses):
        detector = Overfitting()
        return [(step, found) for step, loss in enumerate(losses, 1) if (found := detector.evaluation(step * 10, loss))]

    def test_twice_worse_than_the_best_is_told_once_with_the_best_step(self):
        [(number, finding)] = self.told(3.0, 2.0, 2.2, 2.4, 2.6, 2.8)
        assert (number, finding.reason, finding.step) == (4, "OVERFITTING", 40)
        assert "2 after step 20, 2.4 after step 40" in finding.message
        assert "20 steps" in finding.suggestion

    @pytest.mark.parametrize(
        "losses",
        [(3.0, 2.0, 1.0), (3.0, 2.0, 2.2, 1.9, 2.1, 1.8), (2.0, 2.01, 2.015, 2.019), (2.0, 2.5, 2.4, 2.3)],
        ids=["falls", "zigzags", "stands", "comes back"],
    )
    def test_none_of_these_is_overfitting(self, losses):
        assert self.told(*losses) == []

    def test_a_better_best_begins_anew(self):
        assert [number for number, _ in self.told(2.0, 2.2, 2.4, 1.0, 1.2, 1.4)] == [3, 6]


class TestIdleLearningRate:
    @staticmethod
    def moving(relative):
        return lambda step: relative if step % MEASURE_EVERY == 0 else None

    def test_weights_and_loss_that_stay_are_told_once(self):
        [(step, finding)] = watched(IdleLearningRate(0), noisy(200, 2.0), rate=1e-12, movement=self.moving(1e-9))
        assert (step, finding.reason) == (40, "LEARNING_RATE_WITHOUT_EFFECT")
        assert "1e-12" in finding.message

    def test_weights_that_move_are_none(self):
        assert watched(IdleLearningRate(0), noisy(200, 2.0), movement=self.moving(1e-3)) == []

    def test_a_loss_that_falls_is_none(self):
        losses = noisy(200, lambda step: 5 - step / 40)
        assert watched(IdleLearningRate(0), losses, movement=self.moving(1e-9)) == []

    def test_the_warm_up_is_not_looked_at(self):
        found = watched(IdleLearningRate(100), noisy(200, 2.0), movement=self.moving(1e-9))
        assert [step for step, _ in found] == [140]

    def test_where_weights_cannot_be_looked_at_nothing_is_said(self):
        assert watched(IdleLearningRate(0), noisy(200, 2.0)) == []


def with_row(row, targets=(1,)):
    import dataclasses

    return dataclasses.replace(example(range(4), targets), row=row)


def test_a_batch_without_targets_is_named_with_its_rows():
    examples = [with_row(9, ()), with_row(3, ())]
    finding = without_targets(5, examples, (0,))
    assert (finding.reason, finding.rows, finding.step) == ("BATCH_WITHOUT_TARGETS", (3, 9), 5)
    assert "rows 3 and 9" in finding.message
    assert without_targets(5, examples, (2,)) is None
    assert without_targets(5, examples, (2, 0)) is not None


@pytest.mark.parametrize(
    ("rows", "text"),
    [((), ""), ((7,), "row 7"), ((1, 2), "rows 1 and 2"), (tuple(range(1, 12)), "rows 1, 2, 3, 4, 5, 6, 7, 8 and 3 more")],
    ids=["none", "one", "two", "many"],
)
def test_rows_as_people_say_them(rows, text):
    assert named(rows) == text


def test_rows_are_told_once_in_order_and_at_most_64():
    assert rows_of([with_row(5), with_row(2), with_row(5), with_row(0)]) == (2, 5)
    assert len(rows_of([with_row(row) for row in range(1, 100)])) == 64


def test_the_spread_is_that_of_a_normal_distribution_and_no_wild_value_moves_it():
    values = noisy(2001, 5.0, noise=2.0)
    assert spread(values) == pytest.approx(2.0, rel=0.1)
    assert spread([*values, 1e9, -1e9]) == pytest.approx(2.0, rel=0.1)


def test_all_detectors_report_to_the_sink_and_a_validation_that_is_not_finite_is_told():
    told = []

    class Sink:
        def anomaly(self, reason, message, step, *, rows=(), suggestion=""):
            told.append((reason, step, rows))

    detectors = Detectors.over(numbers(max_steps=100), 100, sink=Sink())
    for step, loss in enumerate([*noisy(50, 2.0), 90.0], start=1):
        detectors.step(Observation(step, loss, 1.0, 0.01, (step,)))
    for step, loss in ((10, 2.0), (20, math.nan), (30, 3.0), (40, 4.0)):
        detectors.evaluation(step, loss)
    assert told == [("LOSS_SPIKE", 51, (51,)), ("LOSS_NOT_FINITE", 20, ()), ("OVERFITTING", 40, ())]
