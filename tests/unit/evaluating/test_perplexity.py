"""Perplexity of known answers and its differences."""

import json
import math

import numpy as np
import pytest
from google.protobuf import json_format

from services.trainer.evaluating.perplexity import perplexities
from services.trainer.evaluating.values import Answer
from tunesmith.v1 import evaluation_pb2


def known(*told: tuple[float, int] | None) -> dict[int, Answer]:
    """(nats, tokens) of each row, None = not told."""
    return {
        row: Answer(row, logprob=-each[0], tokens=each[1]) if each else Answer(row, reason="X", message="too long")
        for row, each in enumerate(told, 1)
    }


def found(*models: dict[int, Answer], seed: int = 42) -> list:
    told = perplexities(models, seed)
    for each in told:
        # Everything must be a field of the message, and survive as it is.
        json_format.ParseDict(json.loads(json.dumps(each or {}, allow_nan=False)), evaluation_pb2.Perplexity())
    return told


def noisy(mean: float, rows: int = 200, seed: int = 7) -> list[float]:
    """Nats of rows that differ much among each other; the same rows for every mean."""
    return list(mean + np.random.default_rng(seed).normal(0, 1, rows))


def test_it_is_e_to_the_mean_over_tokens_and_not_over_rows() -> None:
    (only,) = found(known((2.0, 1), (2.0, 4)))
    assert (only["loss"], only["token_count"], only["unscored_count"]) == (pytest.approx(4 / 5), 5, 0)
    assert only["value"] == pytest.approx(math.exp(4 / 5))
    # A draw holds row 1 twice, row 2 twice or both.
    assert (only["low"], only["high"]) == (pytest.approx(math.exp(2 / 4)), pytest.approx(math.exp(2.0)))
    assert "delta" not in only


def test_equal_rows_leave_no_doubt() -> None:
    (only,) = found(known(*[(math.log(8), 1)] * 30))
    assert (only["value"], only["low"], only["high"]) == pytest.approx((8, 8, 8))


def test_a_difference_is_paired_so_that_hard_rows_do_not_hide_it() -> None:
    base = known(*[(nats, 1) for nats in noisy(4.0)])
    tuned = known(*[(nats, 1) for nats in noisy(3.95)])
    first, second = found(base, tuned)
    assert second["value"] > first["low"]
    assert second["delta"] == pytest.approx(second["value"] - first["value"])
    assert second["delta_low"] < second["delta"] < second["delta_high"] < 0
    half = (second["delta_high"] - second["delta_low"]) / 2
    assert second["delta_text"] == f"lower by {-second['delta']:.3g} ± {half:.2g}"
    back = found(tuned, base)[1]
    assert back["delta_text"].replace("higher", "lower") == second["delta_text"]
    assert (back["delta_low"], back["delta_high"]) == pytest.approx((-second["delta_high"], -second["delta_low"]))


def test_chance_is_no_change() -> None:
    base = known(*[(nats, 1) for nats in noisy(4.0)])
    other = known(*[(nats, 1) for nats in noisy(4.0, seed=8)])
    told = found(base, other)[1]
    half = (told["delta_high"] - told["delta_low"]) / 2
    assert told["delta_text"] == f"no significant change ({told['delta']:+.3g} ± {half:.2g})"


def test_the_same_model_twice_is_no_change() -> None:
    base = known(*[(nats, 1) for nats in noisy(4.0)])
    told = found(base, dict(base))[1]
    assert (told["delta_low"], told["delta"], told["delta_high"]) == (0, 0, 0)
    assert told["delta_text"] == "no significant change (+0 ± 0)"


def test_the_same_seed_tells_the_same() -> None:
    models = known(*[(nats, 2) for nats in noisy(3.0, 40)]), known(*[(nats, 2) for nats in noisy(3.1, 40)])
    assert found(*models) == found(*models)
    assert found(*models)[1]["delta_low"] != found(*models, seed=43)[1]["delta_low"]


def test_rows_that_cannot_be_told_are_left_out_and_compared_are_those_of_both() -> None:
    base = known((1.0, 1), None, (1.0, 1), (9.0, 1))
    tuned = known((2.0, 1), (5.0, 1), (2.0, 1), None)
    first, second = found(base, tuned)
    assert (first["loss"], first["unscored_count"]) == (pytest.approx(11 / 3), 1)
    assert (second["loss"], second["unscored_count"]) == (3.0, 1)
    assert second["delta"] == pytest.approx(math.e**2 - math.e)
    assert second["delta_text"] == ""


def test_what_can_be_told_of_no_row_is_absent() -> None:
    nothing, something = found(known(None, None), known((1.0, 1), (1.0, 1)))
    assert nothing is None
    assert "delta" not in something
    assert found({}, {}) == [None, None]


def test_models_with_other_tokens_are_not_compared() -> None:
    first, second = found(known(*[(4.0, 2)] * 20), known(*[(4.0, 3)] * 20))
    assert (first["token_count"], second["token_count"]) == (40, 60)
    assert not any(name.startswith("delta") for name in second)


def test_few_rows_have_a_difference_and_no_words_for_it() -> None:
    nine = found(known(*[(4.0, 1)] * 9), known(*[(3.0, 1)] * 9))[1]
    ten = found(known(*[(4.0, 1)] * 10), known(*[(3.0, 1)] * 10))[1]
    assert (nine["delta_text"], ten["delta_text"]) == ("", "lower by 34.5 ± 0")


@pytest.mark.parametrize("nats", [800.0, 1e9], ids=["beyond a double", "far beyond"])
def test_hopeless_answers_stay_numbers(nats: float) -> None:
    (only,) = found(known(*[(nats, 1)] * 12))
    assert only["loss"] == nats
    assert math.isfinite(only["high"])
