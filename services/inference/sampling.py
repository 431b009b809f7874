"""Chooses the next token from logits; used by the transformers engine."""

import torch

from services.inference.engine import Sampling


class Sampler:
    """The choices of one answer; equal seeds make equal choices on the same logits."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """The next token id. `logits` has the shape [vocabulary]."""
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        # Shifted first, so that a tiny temperature divides 0 by itself and not a large number into infinity.
        probabilities = torch.softmax((logits - logits.max()).double() / self._sampling.temperature, dim=-1)
        if self._sampling.top_p < 1:
            probabilities = _nucleus(probabilities, self._sampling.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero for all but the likeliest tokens that together reach `top_p`; the likeliest always stays."""
    ordered, order = probabilities.sort(descending=True)
    reached_before = ordered.cumsum(-1) - ordered
    ordered[reached_before >= top_p] = 0
    # The likeliest has nothing before it: 0 >= top_p is never true.
    return torch.zeros_like(probabilities).scatter_(0, order, ordered)
