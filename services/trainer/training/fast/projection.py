"""Linear layers that read the same input, with their low-rank adapters, without the wrappers of peft; used by FastLayer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from services.trainer.training.fast.products import add_widened_, narrowed, outer, times

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
    """What the backward pass needs of an adapter's forward pass."""

    adapter: Adapter
    narrow: Tensor
    """dropout(x) Aᵀ [N, rank]."""
    factor: Tensor | None
    """What dropout multiplied x with, [N, inputs]; None = nothing."""

    def dropped(self, x: Tensor) -> Tensor:
        """What the adapter read."""
        return x if self.factor is None else x * self.factor


class Projection:
    """One or more layers."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self._modules = tuple(modules)
        self._layers: tuple[nn.Linear, ...] = tuple(
            module.base_layer if isinstance(module, LoraLinear) else module for module in modules
        )

    @property
    def width(self) -> int:
        """Outputs of all layers together."""
        return sum(layer.out_features for layer in self._layers)

    @property
    def inputs(self) -> int:
        """Of every layer."""
        return self._layers[0].in_features

    @property
    def dropped_inputs(self) -> int:
        """Numbers kept of a token because adapters with dropout read it, in training."""
        return sum(self.inputs for module in self._modules if _has_dropout(module))

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that may be trained."""
        for module in self._modules:
            yield from module.parameters()

    def forward(self, x: Tensor, has_adapter: bool) -> tuple[list[Tensor], list[Used | None]]:
        """(outputs [N, outputs], what `backward` needs) by layer, for `x` [N, inputs]; with or without adapters."""
        results: list[Tensor] = []
        used: list[Used | None] = []
        for layer, module in zip(self._layers, self._modules, strict=True):
            result = times(x, layer.weight.T)
            if layer.bias is not None:
                result.add_(layer.bias)
            adapter = _adapter(module) if has_adapter else None
            if adapter is None:
                used.append(None)
            else:
                factor = _dropped(x, adapter.dropout) if adapter.dropout else None
                narrow = (x if factor is None else x * factor) @ adapter.down.T
                add_widened_(result, narrow, adapter.up.T, adapter.scaling)
                used.append(Used(adapter, narrow, factor))
            results.append(result)
        return results, used

    def backward(
        self, outputs: Sequence[Tensor], x: Tensor, used: Sequence[Used | None], gradients: dict[Tensor, Tensor]
    ) -> Tensor:
        """∂x [N, inputs] of `outputs` = ∂outputs by layer; gradients of trained weights go into `gradients`."""
        result: Tensor | None = None
        inner = self.backward_to_weights(outputs, x, used, gradients)
        for layer, gradient, each, between in zip(self._layers, outputs, used, inner, strict=True):
            own = times(gradient, layer.weight)
            if each is not None and between is not None:
                _add(between, each, own)
            result = own if result is None else result.add_(own)
        assert result is not None, "a projection has a layer"
        return result

    def backward_to_weights(
        self, outputs: Sequence[Tensor], x: Tensor, used: Sequence[Used | None], gradients: dict[Tensor, Tensor]
    ) -> list[Tensor | None]:
        """Like `backward` without ∂x; returns the gradients [N, rank] between the matrices of each adapter."""
        inner: list[Tensor | None] = []
        for layer, gradient, each in zip(self._layers, outputs, used, strict=True):
            if layer.weight.requires_grad:
                gradients[layer.weight] = gradient.T @ x
            if layer.bias is not None and layer.bias.requires_grad:
                gradients[layer.bias] = gradient.sum(0)
            inner.append(None if each is None else _adapter_gradients(gradient, x, each, gradients))
        return inner


def _adapter(module: Any) -> Adapter | None:
    """As it is now."""
    if not isinstance(module, LoraLinear):
        return None
    dropout = module.lora_dropout[ADAPTER]
    rate = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    return Adapter(module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight, module.scaling[ADAPTER], rate)


def _has_dropout(module: Any) -> bool:
    return isinstance(module, LoraLinear) and getattr(module.lora_dropout[ADAPTER], "p", 0.0) > 0


def _dropped(x: Tensor, rate: float) -> Tensor:
    """Zeros at `rate`, and elsewhere what keeps the mean."""
    return torch.empty_like(x).bernoulli_(1 - rate).div_(1 - rate)


def _adapter_gradients(gradient: Tensor, x: Tensor, used: Used, gradients: dict[Tensor, Tensor]) -> Tensor:
    """Notes ∂A and ∂B; returns the gradient between them [N, rank]."""
    adapter = used.adapter
    between = narrowed(gradient, adapter.up).mul_(adapter.scaling)
    gradients[adapter.up] = outer(used.narrow, gradient).mul_(adapter.scaling).T
    gradients[adapter.down] = outer(between, used.dropped(x))
    return between


def _add(between: Tensor, used: Used, result: Tensor) -> None:
    """The adapter's part of ∂x, in place."""
    if used.factor is None:
        add_widened_(result, between, used.adapter.down)
    else:
        result.addcmul_(between @ used.adapter.down, used.factor)
