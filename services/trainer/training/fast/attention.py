"""Causal attention over rows of a Layout and its derivative; no token sees another sequence's, all see the shared prefix.

A softmax over two sets of keys is the mean of the softmaxes over each, weighted by their sums: so the prefix is one dense product
for all sequences at once. Backward, torch's kernel takes the output and the log-sum-exp over all keys for each set apart, which
gives each set's share of the gradients exactly (the argument of FlashAttention 2, Dao, 2307.08691, section 3.1).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from services.trainer.training.fast.layout import Group, Layout

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Inputs(NamedTuple):
    """What attention reads; queries and keys have been rotated. Each key serves Q / K queries."""

    queries: Tensor
    """[N, Q, D]."""
    keys: Tensor
    """[N, K, D]."""
    values: Tensor
    """[N, K, D]."""


class Attended(NamedTuple):
    """What attention finds."""

    output: Tensor
    """[N, Q, D]."""
    total: Tensor
    """[N, Q]. Log-sum-exp over all keys a query saw."""


class Attention:
    """Of one micro-batch, the same in every layer."""

    def __init__(self, layout: Layout, scale: float) -> None:
        self._layout = layout
        self._scale = scale

    def forward(self, inputs: Inputs) -> Attended:
        """Every row once."""
        output = torch.empty_like(inputs.queries)
        total = output.new_empty(output.shape[:2])
        for group in self._layout.groups:
            found, sums = _forward(*_rectangle(inputs, group), 0.0, True, scale=self._scale)
            torch.index_select(found.transpose(1, 2).flatten(0, 1), 0, group.places, out=output[group.rows])
            torch.index_select(sums.transpose(1, 2).flatten(0, 1), 0, group.places, out=total[group.rows])
        if self._layout.prefix:
            self._add_prefix(inputs, output[self._layout.prefix :], total[self._layout.prefix :])
        return Attended(output, total)

    def backward(self, gradient: Tensor, inputs: Inputs, attended: Attended) -> Inputs:
        """∂inputs of `gradient` = ∂output [N, Q, D]."""
        result = Inputs(*map(torch.empty_like, inputs))
        for group in self._layout.groups:
            found = self._group_backward(gradient, inputs, attended, group)
            for target, value in zip(result, found, strict=True):
                # [B, Q, T, D] to rows; what served several queries gets the sum of theirs.
                real = value.transpose(1, 2).flatten(0, 1).index_select(0, group.places)
                torch.sum(real.view(*target[group.rows].shape[:2], -1, target.shape[2]), 2, out=target[group.rows])
        if self._layout.prefix:
            self._prefix_backward(gradient, inputs, attended, result)
        return result

    def _group_backward(self, gradient: Tensor, inputs: Inputs, attended: Attended, group: Group) -> tuple[Tensor, ...]:
        """Gradients of a group's queries, keys and values, [B, Q, T, D] each."""
        shape = (*group.index.shape, *gradient.shape[1:])
        # What stands in for padding has no gradient, and so gives none.
        padded = gradient.new_zeros(shape).flatten(0, 1).index_copy_(0, group.places, gradient[group.rows]).view(shape)
        found: tuple[Tensor, ...] = _backward(
            padded.transpose(1, 2),
            *_rectangle(inputs, group),
            *(_gathered(value, group) for value in attended),
            0.0,
            True,
            scale=self._scale,
        )
        return found

    def _add_prefix(self, inputs: Inputs, output: Tensor, total: Tensor) -> None:
        """Add the prefix to what the sequences have found in themselves, in place."""
        found, sums = _forward(*self._prefix_views(inputs), 0.0, False, scale=self._scale)
        keys = inputs.keys.shape[1]
        output, total = _by_key(output, keys), _by_key(total, keys)
        output.lerp_(found, torch.sigmoid(sums - total).unsqueeze_(-1))
        total.copy_(torch.logaddexp(total, sums))

    def _prefix_backward(self, gradient: Tensor, inputs: Inputs, attended: Attended, result: Inputs) -> None:
        """Add to `result` what passes between the prefix and the rows after it."""
        prefix, count = self._layout.prefix, inputs.keys.shape[1]
        behind, *own = (_by_key(value[prefix:], count) for value in (gradient, *attended))
        queries, keys, values = _backward(behind, *self._prefix_views(inputs), *own, 0.0, False, scale=self._scale)
        _by_key(result.queries[prefix:], count).add_(queries)
        result.keys[:prefix].add_(keys.sum(0).transpose(0, 1))
        result.values[:prefix].add_(values.sum(0).transpose(0, 1))

    def _prefix_views(self, inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [Q / K, K, n, D] of the rows after the prefix, keys and values [Q / K, K, P, D] of the prefix; no copies."""
        prefix = self._layout.prefix
        queries = _by_key(inputs.queries[prefix:], inputs.keys.shape[1])
        keys, values = (part[:prefix].transpose(0, 1).expand(len(queries), -1, -1, -1) for part in (inputs.keys, inputs.values))
        return queries, keys, values


def _rectangle(inputs: Inputs, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, Q, T, D]; keys and values once per query."""
    shared_by = inputs.queries.shape[1] // inputs.keys.shape[1]
    queries, keys, values = (_gathered(part, group) for part in inputs)
    return queries, keys.repeat_interleave(shared_by, 1), values.repeat_interleave(shared_by, 1)


def _gathered(rows: Tensor, group: Group) -> Tensor:
    """[N, heads, ...] to [B, heads, T, ...]."""
    chosen = rows.index_select(0, group.index.flatten())
    return chosen.view(*group.index.shape, *rows.shape[1:]).transpose(1, 2)


def _by_key(values: Tensor, keys: int) -> Tensor:
    """View [Q / K, K, n, ...] of `values` [n, Q, ...]."""
    return values.view(len(values), keys, values.shape[1] // keys, *values.shape[2:]).movedim(2, 0).transpose(1, 2)
