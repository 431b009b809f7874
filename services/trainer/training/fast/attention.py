"""Causal attention over rows of a Layout and its derivative; no token sees another sequence's, all see the shared prefix.

A softmax over two sets of keys is the mean of the softmaxes over each, weighted by their sums: so the prefix is one dense product
for all sequences at once. Backward, torch's kernel takes the output and the log-sum-exp over all keys for each set apart, which
gives each set's share of the gradients exactly (the argument of FlashAttention 2, Dao, 2307.08691, section 3.1).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from services.trainer.training.fast.layout import Group, Layout

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True)
class Heads:
    """How a row [(Q + 2 K) · D] of queries, keys and values is cut."""

    queries: int
    """Q."""
    keys: int
    """K, as many for values; each serves Q / K queries."""
    size: int
    """D."""
    scale: float

    def split(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views [..., heads, D] of queries, keys and values of `rows` [..., (Q + 2 K) · D]."""
        queries, keys, values = torch.split(self.cut(rows), [self.queries, self.keys, self.keys], -2)
        return queries, keys, values

    def cut(self, rows: Tensor) -> Tensor:
        """View [..., heads, D] of `rows` [..., heads · D]."""
        return rows.view(*rows.shape[:-1], -1, self.size)

    def by_key(self, values: Tensor) -> Tensor:
        """View [Q / K, K, n, ...] of `values` [n, Q, ...]."""
        return values.view(len(values), self.keys, self.queries // self.keys, *values.shape[2:]).movedim(2, 0).transpose(1, 2)


@dataclass(frozen=True, slots=True)
class Attended:
    """What the backward pass needs."""

    rows: Tensor
    """[N, (Q + 2 K) · D]. What attention read."""
    output: Tensor
    """[N, Q, D]."""
    total: Tensor
    """[N, Q]. Log-sum-exp over all keys a query saw."""


class Attention:
    """Of one micro-batch, the same in every layer."""

    def __init__(self, heads: Heads, layout: Layout) -> None:
        self._heads = heads
        self._layout = layout

    def forward(self, rows: Tensor) -> Attended:
        """Queries and keys of `rows` [N, (Q + 2 K) · D] have been rotated."""
        output = rows.new_empty(len(rows), self._heads.queries, self._heads.size)
        total = rows.new_empty(len(rows), self._heads.queries)
        for group in self._layout.groups:
            found, sums = _forward(*self._rectangle(rows, group), 0.0, True, scale=self._heads.scale)
            torch.index_select(found.transpose(1, 2).flatten(0, 1), 0, group.places, out=output[group.rows])
            torch.index_select(sums.transpose(1, 2).flatten(0, 1), 0, group.places, out=total[group.rows])
        if self._layout.prefix:
            self._add_prefix(rows, output[self._layout.prefix :], total[self._layout.prefix :])
        return Attended(rows, output, total)

    def backward(self, gradient: Tensor, attended: Attended) -> Tensor:
        """∂rows of `gradient` = ∂output [N, Q, D]."""
        result = torch.empty_like(attended.rows)
        for group in self._layout.groups:
            self._group_backward(gradient, attended, group, self._heads.split(result[group.rows]))
        if self._layout.prefix:
            self._prefix_backward(gradient, attended, result)
        return result

    def _rectangle(self, rows: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, Q, T, D]; keys and values once per query."""
        queries, keys, values = self._heads.split(rows[group.index])
        times = self._heads.queries // self._heads.keys
        keys, values = keys.repeat_interleave(times, -2), values.repeat_interleave(times, -2)
        return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)

    def _group_backward(self, gradient: Tensor, attended: Attended, group: Group, targets: tuple[Tensor, ...]) -> None:
        """Write the gradients of a group's queries, keys and values to `targets` [n, heads, D]."""
        shape = (*group.index.shape, *gradient.shape[1:])
        # What stands in for padding has no gradient, and so gives none.
        padded = gradient.new_zeros(shape).flatten(0, 1).index_copy_(0, group.places, gradient[group.rows]).view(shape)
        found = _backward(
            padded.transpose(1, 2),
            *self._rectangle(attended.rows, group),
            attended.output[group.index].transpose(1, 2),
            attended.total[group.index].transpose(1, 2),
            0.0,
            True,
            scale=self._heads.scale,
        )
        for target, value in zip(targets, found, strict=True):
            # [B, Q, T, D] to rows; what served several queries gets the sum of theirs.
            real = value.transpose(1, 2).flatten(0, 1)[group.places]
            torch.sum(real.view(len(real), target.shape[1], -1, self._heads.size), 2, out=target)

    def _prefix_views(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [Q / K, K, n, D] of the rows after the prefix, keys and values [Q / K, K, P, D] of the prefix; no copies."""
        prefix, times = self._layout.prefix, self._heads.queries // self._heads.keys
        queries, _, _ = self._heads.split(rows[prefix:])
        _, keys, values = (part.transpose(0, 1).expand(times, -1, -1, -1) for part in self._heads.split(rows[:prefix]))
        return self._heads.by_key(queries), keys, values

    def _add_prefix(self, rows: Tensor, output: Tensor, total: Tensor) -> None:
        """Add the prefix to what the sequences have found in themselves, in place."""
        found, sums = _forward(*self._prefix_views(rows), 0.0, False, scale=self._heads.scale)
        output, total = self._heads.by_key(output), self._heads.by_key(total)
        output.lerp_(found, torch.sigmoid(sums - total).unsqueeze_(-1))
        total.copy_(torch.logaddexp(total, sums))

    def _prefix_backward(self, gradient: Tensor, attended: Attended, result: Tensor) -> None:
        """Add to `result` what passes between the prefix and the rows after it."""
        prefix, heads = self._layout.prefix, self._heads
        behind, output, total = (heads.by_key(value[prefix:]) for value in (gradient, attended.output, attended.total))
        queries, keys, values = _backward(
            behind, *self._prefix_views(attended.rows), output, total, 0.0, False, scale=heads.scale
        )
        heads.by_key(heads.split(result[prefix:])[0]).add_(queries)
        _, key_gradient, value_gradient = heads.split(result[:prefix])
        key_gradient.add_(keys.sum(0).transpose(0, 1))
        value_gradient.add_(values.sum(0).transpose(0, 1))
