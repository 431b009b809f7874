"""What is reported between two metric events."""

import pytest

from services.trainer.training.meter import Meter, Sums


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def sums(loss, units, right=0.0):
    return Sums((loss,), (right,), (units,), ("accuracy",))


def metered(clock, *steps):
    meter = Meter(clock)
    for step in steps:
        meter.add(*step)
    return meter


def test_loss_and_metrics_are_means_over_the_units_since_the_last_reading():
    meter = metered(Clock(), (sums(8.0, 4, 1.0), 10, 4), (sums(4.0, 8, 5.0), 20, 8))
    values = meter.read()
    assert (values["loss"], values["accuracy"]) == (1.0, 0.5)
    meter.add(sums(3.0, 1, 1.0), 5, 1)
    values = meter.read()
    assert (values["loss"], values["accuracy"]) == (3.0, 1.0)


def test_a_loss_of_several_parts_divides_each_by_its_own_units():
    both = Sums((6.0, 10.0), (), (2, 5)) + Sums((2.0, 10.0), (), (2, 15))
    assert both.loss == pytest.approx(8.0 / 4 + 20.0 / 20)
    assert both.means("eval_") == {"eval_loss": pytest.approx(3.0)}


def test_tokens_are_counted_since_the_start():
    meter = metered(Clock(), (sums(1.0, 1), 10, 4))
    meter.read()
    meter.add(sums(1.0, 1), 20, 8)
    values = meter.read()
    assert (values["tokens"], values["target_tokens"]) == (30.0, 12.0)


def test_speed_is_tokens_per_second_since_the_last_reading_without_what_was_left_out():
    clock = Clock()
    meter = metered(clock, (sums(1.0, 1), 10, 4))
    clock.now += 2
    assert meter.read()["tokens_per_second"] == 5.0
    clock.now += 50
    meter.restart_clock()
    meter.add(sums(1.0, 1), 30, 4)
    clock.now += 3
    assert meter.read()["tokens_per_second"] == 10.0


def test_no_time_at_all_is_no_division_by_zero():
    assert metered(Clock(), (sums(1.0, 1), 10, 4)).read()["tokens_per_second"] > 0
