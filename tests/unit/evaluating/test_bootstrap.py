"""Intervals: known cases, properties, and that they hold the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.evaluating.bootstrap import RESAMPLES, Interval, interval, resampled_means


def of(values: list[float], seed: int = 42) -> Interval:
    means = resampled_means(np.array(values, dtype=float)[:, None], seed)
    return interval(float(np.mean(values)), means[:, 0])


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly_the_same() -> None:
    values = [0.0, 1.0] * 50
    assert of(values) == of(values)
    assert of(values) != of(values, seed=7)
    assert of(values).low == pytest.approx(of(values, seed=7).low, abs=0.02)


def test_a_share_of_half_among_a_hundred_has_the_width_of_the_binomial() -> None:
    found = of([0.0, 1.0] * 50)
    half = 1.96 * (0.5 * 0.5 / 100) ** 0.5
    assert found.value == 0.5
    assert found.low == pytest.approx(0.5 - half, abs=0.02)
    assert found.high == pytest.approx(0.5 + half, abs=0.02)


def test_the_standard_error_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    means = resampled_means(values[:, None], 1)
    assert len(means) == RESAMPLES
    assert means.std() == pytest.approx(values.std() / 20, rel=0.1)
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)


def test_columns_of_the_same_rows_stay_paired() -> None:
    base = np.random.default_rng(0).normal(size=50)
    means = resampled_means(np.stack([base, base + 1], axis=1), 3)
    assert np.ptp(means[:, 1] - means[:, 0]) < 1e-12


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    generator, held = np.random.default_rng(5), 0
    for trial in range(200):
        found = of(list((generator.random(60) < 0.3).astype(float)), seed=trial)
        held += found.low <= 0.3 <= found.high
    assert 0.89 <= held / 200 <= 0.99


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=40)
def test_the_interval_holds_its_mean_and_lies_within_the_values(values: list[float], seed: int) -> None:
    found = of(values, seed)
    assert found.low <= found.value <= found.high
    assert min(values) - 1e-9 <= found.low
    assert found.high <= max(values) + 1e-9
