"""Log-probabilities of targets and their gradients, chunk by chunk, are those of the whole logits at once."""

import pytest
import torch
from torch.nn import functional

from services.trainer.training.fast import head
from services.trainer.training.fast.head import target_scores

WIDTH, VOCABULARY, COUNT = 6, 40, 11


def given(*, trained_head=False):
    torch.manual_seed(0)
    states = torch.randn(COUNT, WIDTH, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, dtype=torch.float64, requires_grad=trained_head)
    # A target that comes twice gets both gradients.
    targets = torch.randint(VOCABULARY, (COUNT,))
    targets[3] = targets[7]
    return states, weight, targets


def whole(states, weight, targets):
    logits = states @ weight.T
    return -functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


@pytest.mark.parametrize("trained_head", [False, True])
@pytest.mark.parametrize("chunk", [1, 3 * VOCABULARY, 2**24])
def test_scores_and_gradients_are_those_of_all_logits(monkeypatch, chunk, trained_head):
    monkeypatch.setattr(head, "_CHUNK", chunk)
    found = []
    for function in (target_scores, whole):
        states, weight, targets = given(trained_head=trained_head)
        scores, right = function(states, weight, targets)
        (scores * torch.arange(COUNT)).sum().backward()
        found.append((scores.detach(), right, states.grad, weight.grad))
    torch.testing.assert_close(*found)


def test_the_likeliest_token_is_right():
    weight = torch.eye(4)
    _, right = target_scores(weight[[1, 2]], weight, torch.tensor([1, 3]))
    assert right.tolist() == [True, False]


def test_nothing_to_score_is_nothing_with_a_gradient():
    states, weight, _ = given(trained_head=True)
    scores, right = target_scores(states[:0], weight, torch.tensor([], dtype=torch.long))
    scores.sum().backward()
    assert len(scores) == len(right) == 0
    assert not weight.grad.any()


def test_without_gradients_no_slopes_are_computed(monkeypatch):
    monkeypatch.setattr(torch, "addmm", None)
    with torch.no_grad():
        scores, _ = target_scores(*given())
    assert len(scores) == COUNT
