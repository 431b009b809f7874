"""Sums of an objective: their means, and that they survive a checkpoint to the bit."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.training.progress import Progress, Totals
from services.trainer.training.sums import Sums

anything = st.builds(
    Sums,
    parts=st.lists(st.floats(), max_size=3).map(tuple),
    metrics=st.lists(st.floats(), max_size=3).map(tuple),
    units=st.lists(st.integers(0, 2**63 - 1), max_size=3).map(tuple),
    names=st.lists(st.text(), max_size=3).map(tuple),
)


def stored(value):
    """By way of a manifest."""
    return json.loads(json.dumps(asdict(value)))


def bits(sums):
    return [float(value).hex() for value in (*sums.parts, *sums.metrics)], sums.units, sums.names


def test_a_loss_of_several_parts_divides_each_by_its_own_units():
    both = Sums((6.0, 10.0), (), (2, 5)) + Sums((2.0, 10.0), (), (2, 15))
    assert both.loss == pytest.approx(8.0 / 4 + 20.0 / 20)
    assert both.means("eval_") == {"eval_loss": pytest.approx(3.0)}


def test_metrics_are_divided_by_the_units_of_the_first_part():
    both = Sums((1.0, 1.0), (3.0,), (2, 9), ("accuracy",)) + Sums((1.0, 1.0), (1.0,), (2, 9), ("accuracy",))
    assert both.means()["accuracy"] == 1.0


def test_sums_of_other_objectives_do_not_add():
    with pytest.raises(ValueError, match="zip"):
        Sums((1.0,), (), (1,)) + Sums((1.0, 1.0), (), (1, 1))


@given(anything)
def test_every_bit_survives_json(sums):
    assert bits(Sums.from_record(stored(sums))) == bits(sums)


@given(anything | st.none(), st.integers(0, 2**62), st.dictionaries(st.text(), st.floats()))
def test_progress_survives_json_with_what_was_added_up_between_two_readings(sums, tokens, metrics):
    before = Progress(7, 7, 6, 0.1, dict(metrics), Totals(tokens, tokens // 2, sums))
    after = Progress()
    after.restore(stored(before))
    assert repr(after) == repr(before)  # which is equal for nan, too, and for equal bits only
    assert type(after.totals.sums) is type(sums)
