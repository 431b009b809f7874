"""How many steps, and the learning rate of each."""

import pytest
from training_configs import numbers

from services.trainer.training.schedule import learning_rate, steps_per_epoch, total_steps, warmup_steps


@pytest.mark.parametrize(("examples", "batch", "steps"), [(1, 8, 1), (8, 8, 1), (9, 8, 2), (320, 16, 20), (321, 16, 21)])
def test_the_last_partial_batch_of_an_epoch_is_a_step(examples, batch, steps):
    assert steps_per_epoch(examples, batch) == steps


@pytest.mark.parametrize(
    ("epochs", "examples", "steps"), [(1.0, 8, 1), (3.0, 8, 3), (0.5, 32, 2), (2.5, 24, 8), (0.01, 8, 1), (0.1 * 3, 80, 3)]
)
def test_epochs_become_steps_rounded_up(epochs, examples, steps):
    assert total_steps(numbers(num_train_epochs=epochs), examples) == steps


def test_max_steps_wins_over_epochs():
    assert total_steps(numbers(max_steps=5, num_train_epochs=100.0), 8) == 5


def test_warmup_steps_win_over_the_ratio():
    assert warmup_steps(numbers(warmup_ratio=0.5), 10) == 5
    assert warmup_steps(numbers(warmup_ratio=0.05), 10) == 1
    assert warmup_steps(numbers(warmup_ratio=0.5, warmup_steps=0), 10) == 0
    assert warmup_steps(numbers(warmup_ratio=0.0), 10) == 0


def rates(total, **changes):
    chosen = numbers(learning_rate=1.0, **changes)
    return [learning_rate(step, chosen, total) for step in range(1, total + 1)]


def test_warm_up_rises_in_equal_steps_to_the_peak_and_never_starts_at_zero():
    assert rates(6, warmup_steps=4, lr_scheduler_type="constant") == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_constant_stays():
    assert rates(3, lr_scheduler_type="constant") == [1.0, 1.0, 1.0]


def test_linear_falls_in_equal_steps_and_the_last_step_still_learns():
    assert rates(4, lr_scheduler_type="linear") == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_cosine_falls_slowly_then_fast_then_slowly():
    values = rates(5, lr_scheduler_type="cosine", warmup_steps=1)
    assert values == pytest.approx([1.0, 1.0, 0.8535534, 0.5, 0.1464466])


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_no_rate_is_negative_or_above_the_peak(kind):
    for total in (1, 2, 7, 50):
        for warmup in (0, 1, total, total + 3):
            assert all(0.0 < rate <= 1.0 for rate in rates(total, lr_scheduler_type=kind, warmup_steps=warmup))
