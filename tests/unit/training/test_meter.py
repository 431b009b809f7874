"""What is reported between two metric events."""

from services.trainer.training.meter import Meter
from services.trainer.training.progress import Totals
from services.trainer.training.sums import Sums


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def sums(loss, units, right=0.0):
    return Sums((loss,), (right,), (units,), ("accuracy",))


def metered(clock, *steps):
    meter = Meter(clock, Totals())
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


def test_loss_and_speed_start_anew_at_each_reading_but_tokens_count_from_the_start():
    clock = Clock()
    meter = metered(clock, (sums(8.0, 4), 60, 4))
    clock.now += 2.0
    one = {"loss": 2.0, "accuracy": 0.0, "tokens": 60.0, "target_tokens": 4.0, "tokens_per_second": 30.0}
    assert meter.read() == one
    meter.add(sums(3.0, 3), 30, 3)
    clock.now += 1.0
    assert meter.read() == one | {"loss": 1.0, "tokens": 90.0, "target_tokens": 7.0}


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
    with meter.paused("saving"):
        clock.now += 50
    meter.add(sums(1.0, 1), 30, 4)
    clock.now += 3
    assert meter.read()["tokens_per_second"] == 10.0


def test_a_pause_within_a_stretch_leaves_out_its_own_time_only():
    clock = Clock()
    meter = metered(clock)
    clock.now += 1.0
    with meter.paused("saving"):
        clock.now += 1000.0
    meter.add(sums(1.0, 1), 40, 1)
    clock.now += 1.0
    assert meter.read()["tokens_per_second"] == 20.0


def test_no_time_at_all_is_no_division_by_zero():
    assert metered(Clock(), (sums(1.0, 1), 10, 4)).read()["tokens_per_second"] > 0


def test_a_meter_continues_from_the_totals_of_another():
    totals = Totals()
    Meter(Clock(), totals).add(sums(8.0, 4, 3.0), 60, 4)
    meter = Meter(Clock(), totals)
    meter.add(sums(1.0, 5, 6.0), 30, 5)
    values = meter.read()
    assert (values["loss"], values["accuracy"], values["tokens"], values["target_tokens"]) == (1.0, 1.0, 90.0, 9.0)


def test_what_remains_follows_from_steps_and_pauses_apart():
    clock = Clock()
    meter = metered(clock)
    for seconds in (9.0, 2.0, 2.0):
        clock.now += seconds
        meter.add(sums(1.0, 1), 10, 1)
        with meter.paused("evaluation"):
            clock.now += 5.0
    assert meter.remaining(10, 2, 100.0) == 10 * 2.0 + 2 * 5.0
