"""The choice of the next token."""

import collections

import pytest
import torch

from services.inference.engine import Sampling
from services.inference.sampling import Sampler

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0])


def choices(sampling: Sampling, count: int = 200, logits: torch.Tensor = LOGITS) -> list[int]:
    sampler = Sampler(sampling)
    return [sampler.choose(logits) for _ in range(count)]


def test_temperature_zero_is_always_the_likeliest() -> None:
    assert set(choices(Sampling(temperature=0, top_p=0.5, seed=3))) == {1}


def test_equal_seeds_choose_equally_and_other_seeds_do_not() -> None:
    assert choices(Sampling(1.0, 1.0, 7)) == choices(Sampling(1.0, 1.0, 7))
    assert choices(Sampling(1.0, 1.0, 7)) != choices(Sampling(1.0, 1.0, 8))


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_seed_the_contract_allows_works(seed: int) -> None:
    assert set(choices(Sampling(1.0, 1.0, seed))) <= {0, 1, 2, 3}


def test_choices_follow_the_probabilities() -> None:
    counts = collections.Counter(choices(Sampling(1.0, 1.0, 1), count=4000))
    expected = torch.softmax(LOGITS, dim=-1).tolist()
    for token, probability in enumerate(expected):
        assert counts[token] / 4000 == pytest.approx(probability, abs=0.03)


def test_a_higher_temperature_spreads_the_choices() -> None:
    cold = choices(Sampling(0.3, 1.0, 1), count=1000).count(1)
    hot = choices(Sampling(2.0, 1.0, 1), count=1000).count(1)
    assert cold > hot


@pytest.mark.parametrize(("top_p", "allowed"), [(0.01, {1}), (0.64, {1}), (0.8, {1, 2}), (0.95, {0, 1, 2}), (1.0, {0, 1, 2, 3})])
def test_top_p_keeps_the_likeliest_that_together_reach_it(top_p: float, allowed: set[int]) -> None:
    assert set(choices(Sampling(1.0, top_p, 5), count=2000)) == allowed


@pytest.mark.parametrize("temperature", [1e-300, 1e-9])
def test_a_tiny_temperature_is_the_likeliest_and_not_a_failure(temperature: float) -> None:
    assert set(choices(Sampling(temperature, 1.0, 1))) == {1}
