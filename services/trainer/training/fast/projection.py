"""Linear layers that read the same input, with their low-rank adapters, without the wrappers of peft; used by FastLayer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

ADAPTER = "default"
"""The name peft gives an adapter that was given none."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """y += scaling · (dropout(x) Aᵀ) Bᵀ."""

    down: Tensor
    """A [rank, inputs]."""
    up: Tensor
    """B [outputs, rank]."""
    scaling: float
    dropout: float


@dataclass(frozen=True, slots=True)
class Used:
    """What the backward pass needs of a forward pass through adapters."""

    adapters: tuple[Adapter | None, ...]
    """By layer."""
    narrow: tuple[Tensor | None, ...]
    """dropout(x) Aᵀ [N, rank] by layer."""
    factors: tuple[Tensor | None, ...]
    """What dropout multiplied x with, [N, inputs] by layer; None = nothing."""


class Projection:
    """One or more layers; their outputs lie side by side."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self._modules = tuple(modules)
        self._layers: tuple[nn.Linear, ...] = tuple(
            module.base_layer if isinstance(module, LoraLinear) else module for module in modules
        )
        ends = torch.tensor([layer.out_features for layer in self._layers]).cumsum(0).tolist()
        self._columns = [slice(end - layer.out_features, end) for end, layer in zip(ends, self._layers, strict=True)]
        self.width: int = ends[-1]

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that may be trained."""
        for module in self._modules:
            yield from module.parameters()

    def forward(self, x: Tensor, base: Tensor | None = None) -> tuple[Tensor, Used]:
        """(`base` + outputs [N, outputs], what `backward` needs) for `x` [N, inputs]."""
        adapters = tuple(_adapter(module) for module in self._modules)
        if base is None:
            result = x.new_empty(len(x), self.width)
            for layer, columns in zip(self._layers, self._columns, strict=True):
                torch.mm(x, layer.weight.T, out=result[:, columns])
        else:
            result = torch.addmm(base, x, self._layers[0].weight.T)
        narrow, factors = [], []
        for layer, adapter, columns in zip(self._layers, adapters, self._columns, strict=True):
            if layer.bias is not None:
                result[:, columns].add_(layer.bias)
            factor = _dropout(x, adapter)
            inner = None
            if adapter is not None:
                inner = (x if factor is None else x * factor) @ adapter.down.T
                result[:, columns].addmm_(inner, adapter.up.T, alpha=adapter.scaling)
            narrow.append(inner)
            factors.append(factor)
        return result, Used(adapters, tuple(narrow), tuple(factors))

    def backward(self, gradient: Tensor, x: Tensor, used: Used, gradients: dict[Tensor, Tensor]) -> Tensor:
        """∂x [N, inputs] of `gradient` = ∂outputs; gradients of trained weights go into `gradients`."""
        result = torch.mm(gradient[:, self._columns[0]], self._layers[0].weight)
        for layer, columns in zip(self._layers[1:], self._columns[1:], strict=True):
            result.addmm_(gradient[:, columns], layer.weight)
        inner = self.backward_to_weights(gradient, x, used, gradients)
        for adapter, factor, own in zip(used.adapters, used.factors, inner, strict=True):
            if adapter is not None and own is not None:
                _add(own, adapter, factor, result)
        return result

    def backward_to_weights(
        self, gradient: Tensor, x: Tensor, used: Used, gradients: dict[Tensor, Tensor]
    ) -> list[Tensor | None]:
        """Like `backward` without ∂x; returns the gradients [N, rank] between the matrices of each adapter."""
        inner: list[Tensor | None] = []
        for index, (layer, columns) in enumerate(zip(self._layers, self._columns, strict=True)):
            own = gradient[:, columns]
            if layer.weight.requires_grad:
                gradients[layer.weight] = own.T @ x
            if layer.bias is not None and layer.bias.requires_grad:
                gradients[layer.bias] = own.sum(0)
            adapter, narrow, factor = used.adapters[index], used.narrow[index], used.factors[index]
            if adapter is None or narrow is None:
                inner.append(None)
                continue
            between = (own @ adapter.up).mul_(adapter.scaling)
            gradients[adapter.up] = (own.T @ narrow).mul_(adapter.scaling)
            gradients[adapter.down] = between.T @ (x if factor is None else x * factor)
            inner.append(between)
        return inner


def _adapter(module: Any) -> Adapter | None:
    """As it is now: peft switches adapters off for the model as it was before training."""
    if not isinstance(module, LoraLinear) or module.disable_adapters:
        return None
    dropout = module.lora_dropout[ADAPTER]
    rate = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    return Adapter(module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight, module.scaling[ADAPTER], rate)


def _dropout(x: Tensor, adapter: Adapter | None) -> Tensor | None:
    return _dropped(x, adapter.dropout) if adapter is not None and adapter.dropout else None


def _dropped(x: Tensor, rate: float) -> Tensor:
    """Zeros at `rate`, and elsewhere what keeps the mean."""
    return torch.empty_like(x).bernoulli_(1 - rate).div_(1 - rate)


def _add(inner: Tensor, adapter: Adapter, factor: Tensor | None, result: Tensor) -> None:
    """The adapter's part of ∂x."""
    if factor is None:
        result.addmm_(inner, adapter.down)
    else:
        result.addcmul_(inner @ adapter.down, factor)
