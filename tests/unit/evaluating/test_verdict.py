"""Verdicts and scores in words: where they tip, how they round, what they say of few rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.evaluating.bootstrap import Interval
from services.trainer.evaluating.verdict import LEAST_ROWS, amount, verdict


def of(low: float, value: float, high: float, rows: int = 100, *, is_share: bool = True) -> tuple[str, str]:
    found = verdict(Interval(value, low, high), rows, is_share=is_share)
    return found.kind, found.text


@pytest.mark.parametrize(
    ("low", "value", "high", "kind"),
    [
        (0.01, 0.05, 0.09, "BETTER"),
        (0.0, 0.05, 0.1, "NO_SIGNIFICANT_CHANGE"),
        (-0.01, 0.05, 0.11, "NO_SIGNIFICANT_CHANGE"),
        (-0.1, -0.05, 0.0, "NO_SIGNIFICANT_CHANGE"),
        (-0.09, -0.05, -0.01, "WORSE"),
        (0.0, 0.0, 0.0, "NO_SIGNIFICANT_CHANGE"),
    ],
    ids=["above", "touches from above", "holds", "touches from below", "below", "equal"],
)
def test_only_an_interval_beside_0_is_a_change(low: float, value: float, high: float, kind: str) -> None:
    assert of(low, value, high)[0] == kind


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (0, "0 rows say too little; give at least 10"),
        (1, "1 row says too little; give at least 10"),
        (9, "9 rows say too little; give at least 10"),
    ],
    ids=["none", "one", "nine"],
)
def test_few_rows_say_too_little_however_clear_they_are(rows: int, text: str) -> None:
    assert of(0.9, 1.0, 1.0, rows) == ("VERDICT_UNSPECIFIED", text)
    assert of(-1.0, -1.0, -0.9, rows) == ("VERDICT_UNSPECIFIED", text)


def test_enough_rows_are_ten() -> None:
    assert LEAST_ROWS == 10
    assert of(0.2, 0.5, 0.8, 10)[0] == "BETTER"


@pytest.mark.parametrize(
    ("low", "value", "high", "text"),
    [
        (0.36, 0.41, 0.46, "better by 41 ± 5 points"),
        (-0.46, -0.41, -0.36, "worse by 41 ± 5 points"),
        (-0.02, 0.03, 0.08, "no significant change (+3 ± 5 points)"),
        (-0.08, -0.03, 0.02, "no significant change (-3 ± 5 points)"),
        (0.001, 0.004, 0.007, "better by 0.4 ± 0.3 points"),
        (0.36, 0.41, 0.48, "better by 41 ± 6 points"),
        (0.8, 0.8 + 1e-16, 0.8 + 2e-16, "better by 80 ± 0 points"),
        (-0.0004, -0.0003, 0.0001, "no significant change (+0 ± 0 points)"),
    ],
    ids=[
        "better",
        "worse",
        "slightly more",
        "slightly less",
        "less than a point",
        "half of a lopsided width",
        "rounding",
        "next to nothing",
    ],
)
def test_shares_are_told_in_points(low: float, value: float, high: float, text: str) -> None:
    assert of(low, value, high)[1] == text


@pytest.mark.parametrize(
    ("low", "value", "high", "text"),
    [
        (1.0, 2.5, 4.0, "better by 2.5 ± 1.5"),
        (-4.0, -2.5, -1.0, "worse by 2.5 ± 1.5"),
        (-1.0, 0.5, 2.0, "no significant change (+0.5 ± 1.5)"),
        (1000.0, 1234.0, 1468.0, "better by 1.23e+03 ± 2.3e+02"),
    ],
    ids=["better", "worse", "same", "large"],
)
def test_other_numbers_are_told_as_they_are(low: float, value: float, high: float, text: str) -> None:
    assert of(low, value, high, is_share=False)[1] == text


@pytest.mark.parametrize(
    ("interval", "is_share", "text"),
    [
        (Interval(0.88, 0.81, 0.95), True, "88 % (81 to 95)"),
        (Interval(0.0, 0.0, 0.0), True, "0 % (0 to 0)"),
        (Interval(1.0, 1.0, 1.0), True, "100 % (100 to 100)"),
        (Interval(0.005, 0.0, 0.02), True, "0.5 % (0 to 2)"),
        (Interval(7.25, 6.5, 8.0), False, "7.25 (6.5 to 8)"),
    ],
    ids=["usual", "nothing", "all", "less than a point", "no share"],
)
def test_a_score_has_its_interval_beside_it(interval: Interval, is_share: bool, text: str) -> None:
    assert amount(interval, is_share=is_share) == text


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_verdict_takes_a_side_only_when_the_whole_interval_does(value: float, below: float, above: float) -> None:
    delta = Interval(value, value - below, value + above)
    kind = verdict(delta, 100, is_share=True).kind
    assert (kind == "BETTER") == (delta.low > 0)
    assert (kind == "WORSE") == (delta.high < 0)
