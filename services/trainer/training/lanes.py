"""The rows of a micro-batch on several threads, each with cores of its own, instead of all rows on all cores; exact to rounding.

Threads that share every product wait for each other a thousand times a step. Those that have rows of their own meet twice: when
the sums are added up, and when the gradients are. Which row runs where depends on lengths alone, and gradients are added in
order, so a step gives the same bits every time.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from services.trainer.training.config import TrainConfig
from services.trainer.training.data import Example
from services.trainer.training.objectives.objective import Objective

_Part = TypeVar("_Part")
_Found = TypeVar("_Found")
_WORTH_A_LANE = 256
"""Tokens. With fewer, products are too small for a thread to be quicker alone than all threads are together."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """A micro-batch that was divided: what the objective made of each part."""

    parts: tuple[Any, ...]


def most_lanes(config: TrainConfig, objective: Objective, *, is_fast: bool) -> int:
    """How many a micro-batch of this run may be divided into: one for each thread, or 1.

    Only the fast path runs in several threads at once, and without dropout, which draws from one sequence of random numbers.
    Ranks divide the cores by themselves. Gradients of all weights would take memory once a lane. A reference that is stored is
    asked for row by row.
    """
    numbers = config.hyperparameters
    alone = is_fast and numbers.num_processes == 1 and not objective.reference_is_stored
    return torch.get_num_threads() if alone and numbers.lora is not None and not numbers.lora.dropout else 1


def divided(examples: Sequence[Example], most: int) -> list[list[Example]]:
    """Parts of about equally many tokens, none empty; at most `most`, a divisor of `most`, and fewer if they would be small."""
    tokens = sum(map(_tokens, examples))
    useful = min(most, len(examples), tokens // _WORTH_A_LANE)
    count = next((count for count in range(useful, 1, -1) if most % count == 0), 1)
    if count == 1:
        return [list(examples)]
    parts: list[list[Example]] = [[] for _ in range(count)]
    loads = [0] * count
    for example in sorted(examples, key=_tokens, reverse=True):
        lightest = loads.index(min(loads))
        parts[lightest].append(example)
        loads[lightest] += _tokens(example)
    return parts


def summed(compute: Callable[[Any], Tensor], lanes: Lanes, trained: Sequence[Tensor]) -> Tensor:
    """The sum of `compute` of every part, connected to `trained`."""
    learns = torch.is_grad_enabled()
    if not learns:
        return _total(_beside(torch.no_grad()(compute), lanes.parts))
    result: Tensor = _Summed.apply(compute, lanes.parts, *trained)  # type: ignore[no-untyped-call]
    return result


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[[Any], Tensor], parts: Sequence[Any], *trained: Tensor) -> Tensor:
        ctx.trained = trained
        ctx.sums = _beside(torch.enable_grad()(compute), parts)
        return _total([each.detach() for each in ctx.sums])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        sums, ctx.sums = ctx.sums, ()

        def gradients(part: Tensor) -> tuple[Tensor, ...]:
            return tuple(torch.autograd.grad(part, ctx.trained, gradient, materialize_grads=True))

        first, *others = _beside(gradients, sums)
        for other in others:
            torch._foreach_add_(first, other)
        return (None, None, *first)


def _beside(action: Callable[[_Part], _Found], parts: Sequence[_Part]) -> list[_Found]:
    """What `action` gives of each part, in order, all computed at the same time. Raises what the first to fail raised."""
    threads = torch.get_num_threads()
    share = max(1, threads // len(parts))

    def run(part: _Part) -> _Found:
        # Counts for this thread, but for MKL, which has one number for all.
        torch.set_num_threads(share)
        return action(part)

    try:
        found = [_pool(len(parts)).submit(run, part) for part in parts]
        wait(found)
    finally:
        torch.set_num_threads(threads)
    return [each.result() for each in found]


def _total(sums: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(sums)).sum(0)


def _tokens(example: Example) -> int:
    return sum(len(text.ids) for text in example.texts)


@functools.cache
def _pool(lanes: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(lanes, thread_name_prefix="lane")
