"""When two models count as the same: the numbers of the comparison, and its bound."""

import math
import pathlib

import pytest
import torch

from services.common.errors import ServiceError
from services.trainer.training.exporting import likeness
from services.trainer.training.exporting.likeness import Likeness
from tests.tiny_model import make_tiny_model

ONE = [torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.tensor([[0.0, 4.0]])]


def test_equal_logits_do_not_differ() -> None:
    found = likeness.likeness(ONE, [each.clone() for each in ONE])
    assert (found.largest, found.share, found.agreement, found.positions) == (0.0, 0.0, 1.0, 3)


def test_the_numbers_are_over_all_positions_together() -> None:
    other = [ONE[0] + torch.tensor([[0.5, 0.0], [0.0, 2.5]]), ONE[1]]

    found = likeness.likeness(ONE, other)

    spread = float(torch.cat(ONE).std())
    assert found.largest == 2.5
    assert found.share == pytest.approx(math.sqrt((0.25 + 6.25) / 6) / spread)
    assert found.agreement == pytest.approx(2 / 3), "the second position prefers the other token now"
    assert found.numbers()["export_positions"] == 3.0


def test_a_model_without_any_spread_does_not_divide_by_zero() -> None:
    same = [torch.zeros(2, 2)]
    assert likeness.likeness(same, same).share == 0.0


@pytest.mark.parametrize(("share", "fits"), [(0.0, True), (0.01, True), (0.0101, False), (math.inf, False), (math.nan, False)])
def test_the_bound_is_the_largest_that_is_permitted(share: float, fits: bool) -> None:
    found = Likeness(1.5, share, 1.0, 3)
    if fits:
        found.require(0.01)
        return
    with pytest.raises(ServiceError) as caught:
        found.require(0.01)
    assert caught.value.reason == "EXPORT_UNFAITHFUL"
    assert "1.5" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("effect", "bound"),
    [(None, 0.01), (0.5, 0.01), (0.004, 0.002), (0.0, 1e-4)],
    ids=["not known", "strong", "weak", "none at all"],
)
def test_a_weak_adapter_makes_the_bound_tighter(effect: float | None, bound: float) -> None:
    assert likeness.permitted(0.01, effect) == bound


def test_nan_in_one_logit_is_seen() -> None:
    other = [ONE[0].clone(), ONE[1].clone()]
    other[0][0, 0] = math.nan
    with pytest.raises(ServiceError):
        likeness.likeness(ONE, other).require(1.0)


def test_prompts_are_tokens_of_the_models_own_tokenizer(tmp_path: pathlib.Path) -> None:
    found = likeness.prompts(make_tiny_model(tmp_path), 10_000)
    assert len(found) == 8
    assert all(ids.shape[0] == 1 and ids.shape[1] >= 2 for ids in found)


def test_a_model_that_knows_no_letter_cannot_be_checked(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServiceError) as caught:
        likeness.prompts(make_tiny_model(tmp_path), 2)
    assert caught.value.reason == "EXPORT_UNSUPPORTED"
