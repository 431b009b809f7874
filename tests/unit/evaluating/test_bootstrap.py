"""Intervals: known cases, properties, and that they hold the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.evaluating.bootstrap import RESAMPLES, Interval, interval, resampled_means
from services.trainer.evaluating.verdict import amount, verdict


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


@pytest.mark.parametrize(
    ("delta", "rows", "is_share", "kind", "text"),
    [
        (Interval(0.41, 0.36, 0.46), 80, True, "BETTER", "better by 41 ± 5 points"),
        (Interval(-0.1, -0.15, -0.05), 80, True, "WORSE", "worse by 10 ± 5 points"),
        (Interval(0.01, -0.03, 0.05), 80, True, "NO_SIGNIFICANT_CHANGE", "no significant change (+1 ± 4 points)"),
        (Interval(0.0, 0.0, 0.0), 80, True, "NO_SIGNIFICANT_CHANGE", "no significant change (+0 ± 0 points)"),
        (Interval(0.004, 0.001, 0.007), 80, True, "BETTER", "better by 0.4 ± 0.3 points"),
        (Interval(2.5, 1.0, 4.0), 80, False, "BETTER", "better by 2.5 ± 1.5"),
        (Interval(1.0, 1.0, 1.0), 9, True, "VERDICT_UNSPECIFIED", "9 rows say too little; give at least 10"),
        (Interval(1.0, 1.0, 1.0), 1, True, "VERDICT_UNSPECIFIED", "1 row say too little; give at least 10"),
    ],
)
def test_verdicts_in_words(delta: Interval, rows: int, is_share: bool, kind: str, text: str) -> None:
    found = verdict(delta, rows, is_share=is_share)
    assert (found.kind, found.text) == (kind, text)


def test_scores_in_words() -> None:
    assert amount(Interval(0.875, 0.8, 0.95), is_share=True) == "88 % (80 to 95)"
    assert amount(Interval(7.25, 6.5, 8.0), is_share=False) == "7.25 (6.5 to 8)"


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_verdict_takes_a_side_only_when_the_whole_interval_does(value: float, below: float, above: float) -> None:
    delta = Interval(value, value - below, value + above)
    kind = verdict(delta, 100, is_share=True).kind
    assert (kind == "BETTER") == (delta.low > 0)
    assert (kind == "WORSE") == (delta.high < 0)
