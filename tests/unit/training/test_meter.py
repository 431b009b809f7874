"""What is added up between two metric events."""

from services.trainer.training.meter import Meter
from services.trainer.training.progress import Totals


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_loss_is_the_mean_over_target_tokens_not_over_steps():
    meter = Meter(Clock(), Totals())
    meter.add(loss_sum=10.0, tokens=50, target_tokens=1)
    meter.add(loss_sum=2.0, tokens=50, target_tokens=3)
    assert meter.read()["loss"] == 3.0


def test_loss_and_speed_start_anew_at_each_reading_but_tokens_count_from_the_start():
    clock = Clock()
    meter = Meter(clock, Totals())
    meter.add(8.0, 60, 4)
    clock.now += 2.0
    assert meter.read() == {"loss": 2.0, "tokens": 60.0, "target_tokens": 4.0, "tokens_per_second": 30.0}
    meter.add(3.0, 30, 3)
    clock.now += 1.0
    assert meter.read() == {"loss": 1.0, "tokens": 90.0, "target_tokens": 7.0, "tokens_per_second": 30.0}


def test_time_spent_on_something_else_does_not_slow_the_speed():
    clock = Clock()
    meter = Meter(clock, Totals())
    clock.now += 1.0
    with meter.paused():
        clock.now += 1000.0
    meter.add(1.0, 40, 1)
    clock.now += 1.0
    assert meter.read()["tokens_per_second"] == 20.0


def test_a_meter_continues_from_the_totals_of_another():
    totals = Totals()
    Meter(Clock(), totals).add(8.0, 60, 4)
    meter = Meter(Clock(), totals)
    meter.add(1.0, 30, 5)
    values = meter.read()
    assert (values["loss"], values["tokens"], values["target_tokens"]) == (1.0, 90.0, 9.0)
