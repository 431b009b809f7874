"""The choice of the next token."""

import collections

import pytest
import torch

from services.inference.engine import Sampling
from services.inference.sampling import Sampler

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0])


def choices(sampling: Sampling, count: int = 200, logits: torch.Tensor = LOGITS, prompt: tuple[int, ...] = ()) -> list[int]:
    sampler = Sampler(sampling, prompt)
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


@pytest.mark.parametrize(("top_k", "allowed"), [(0, {0, 1, 2, 3}), (1, {1}), (2, {1, 2}), (99, {0, 1, 2, 3})])
def test_top_k_keeps_so_many_of_the_likeliest(top_k: int, allowed: set[int]) -> None:
    assert set(choices(Sampling(1.0, seed=5, top_k=top_k), count=2000)) == allowed


@pytest.mark.parametrize(("min_p", "allowed"), [(0.0, {0, 1, 2, 3}), (0.2, {1, 2}), (0.37, {1}), (0.36, {1, 2}), (1.0, {1})])
def test_min_p_keeps_what_is_so_probable_in_relation_to_the_likeliest(min_p: float, allowed: set[int]) -> None:
    assert set(choices(Sampling(1.0, seed=5, min_p=min_p), count=2000)) == allowed


def test_top_p_counts_what_top_k_and_min_p_have_left() -> None:
    # Of the two that are left the likeliest has 73 %, of all 64 %.
    assert set(choices(Sampling(1.0, 0.7, 5, top_k=2), count=500)) == {1}
    assert set(choices(Sampling(1.0, 0.7, 5, min_p=0.2), count=500)) == {1}
    assert set(choices(Sampling(1.0, 0.7, 5), count=500)) == {1, 2}


def test_the_frequency_penalty_grows_with_every_time_and_the_presence_penalty_does_not() -> None:
    logits = torch.tensor([1.0, 3.0, 2.2])
    assert choices(Sampling(frequency_penalty=1.0), 6, logits) == [1, 2, 1, 2, 0, 1]
    assert choices(Sampling(presence_penalty=1.0), 6, logits) == [1, 2, 1, 1, 1, 1]


def test_a_negative_frequency_penalty_invites_repetition() -> None:
    even = torch.zeros(4)
    assert len(set(choices(Sampling(1.0, seed=3), 60, even)[20:])) == 4
    assert len(set(choices(Sampling(1.0, seed=3, frequency_penalty=-2.0), 60, even)[20:])) == 1


@pytest.mark.parametrize(
    ("logits", "penalty", "expected"),
    [([3.0, 2.0, 1.0], 2.0, 1), ([-1.0, -1.5, -9.0], 2.0, 1), ([3.0, 2.0, 1.0], 1.2, 0), ([3.0, 4.0, 1.0], 0.5, 0)],
    ids=["divides positive", "multiplies negative", "too small to matter", "below 1 invites"],
)
def test_the_repetition_penalty_counts_the_prompt(logits: list[float], penalty: float, expected: int) -> None:
    assert choices(Sampling(repetition_penalty=penalty), 1, torch.tensor(logits), prompt=(0,)) == [expected]


def test_the_repetition_penalty_counts_the_answer() -> None:
    assert choices(Sampling(repetition_penalty=2.0), 4, torch.tensor([3.0, 2.0, 1.6])) == [0, 1, 2, 0]


def test_a_bias_moves_the_choice_also_without_sampling() -> None:
    assert choices(Sampling(logit_bias=((3, 2.9),)), 1) == [1]
    assert choices(Sampling(logit_bias=((3, 3.1),)), 1) == [3]
    assert set(choices(Sampling(1.0, seed=1, logit_bias=((1, -100.0), (2, -100.0))))) == {0, 3}


def test_the_logits_of_the_caller_stay_as_they_are() -> None:
    logits = LOGITS.clone()
    everything = Sampling(1.0, 0.9, 1, 3, 0.01, 0.5, 0.5, 1.5, ((1, -5.0),))
    choices(everything, 20, logits, prompt=(1, 2))
    assert torch.equal(logits, LOGITS)
