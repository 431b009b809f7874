"""Log-probabilities of target tokens from final states, a chunk of the vocabulary's logits at a time.

The derivative of log p(t) with respect to a state h is W[t] - Σ pᵥ W[v]. It does not depend on what follows, so it is computed
while the chunk's probabilities are there, and only scaled in the backward pass: no logits are kept and none are computed twice,
unless the head itself is trained.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from services.trainer.training.fast.products import times

_CHUNK = 2**24
"""Logits at a time: 64 MB."""


def target_scores(states: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(log-probability [M] in nats, whether it is the most likely token [M]) of `targets` [M] after `states` [M, H]."""
    scores, right = _TargetScores.apply(states, weight, targets, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return scores, right


class _TargetScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, learns: bool) -> tuple[Tensor, Tensor]:
        scores, right = states.new_empty(len(targets)), torch.empty_like(targets, dtype=torch.bool)
        slopes = torch.empty_like(states) if learns and ctx.needs_input_grad[0] else None
        for rows in _chunks(len(targets), len(weight)):
            logits, wanted = times(states[rows], weight.T), targets[rows].unsqueeze(1)
            right[rows] = logits.argmax(-1) == wanted.squeeze(1)
            total = logits.logsumexp(-1, keepdim=True)
            scores[rows] = (logits.gather(1, wanted) - total).squeeze(1)
            if slopes is not None:
                # One is subtracted before a product may round: what is nearly certain has a small derivative, not none.
                surplus = logits.sub_(total).exp_().scatter_add_(1, wanted, -torch.ones_like(total))
                torch.neg(times(surplus, weight), out=slopes[rows])
        kept = states if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(slopes, kept, weight, targets)
        ctx.mark_non_differentiable(right)
        return scores, right

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        slopes, states, weight, targets = ctx.saved_tensors
        of_states = None if slopes is None else slopes * gradient.unsqueeze(1)
        of_weight = None if states is None else _weight_gradient(gradient, states, weight, targets)
        return of_states, of_weight, None, None


def _weight_gradient(gradient: Tensor, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    result = torch.zeros_like(weight)
    for rows in _chunks(len(targets), len(weight)):
        likely = times(states[rows], weight.T).softmax(-1)
        result.addmm_(likely.mul_(-gradient[rows].unsqueeze(1)).T, states[rows])
    return result.index_add_(0, targets, states * gradient.unsqueeze(1))


def _chunks(count: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, _CHUNK // vocabulary)
    return (slice(start, start + size) for start in range(0, count, size))
