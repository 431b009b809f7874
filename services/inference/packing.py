"""The linear layers of a model with packed weights; used by the engine and its lean forward pass.

Layers that are given the same input (queries, keys and values; gate and up) are one product: threads wait for each other after
every product, which with so little to do costs as much as the reading of the weights.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from services.inference.packed_weight import packed

_MOST = 128
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers of one module that transformers' models give the same input, one after the other."""


def is_packable(model: Any) -> bool:
    """Whether this build of torch can do so, for weights in fp32 on the CPU."""
    weight = model.get_output_embeddings().weight
    has_library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_library and weight.device.type == "cpu" and weight.dtype is torch.float32)


def pack(model: Any, *, half: bool = False) -> None:
    """Lets every linear layer use packed weights where they are faster; `half` = in bfloat16, and always.

    To be done before adapters are put in.
    """
    for layers in _groups(model):
        product = Product(layers, half=half)
        for index, layer in enumerate(layers):
            layer.forward = functools.partial(_forward, layer, product, index)  # type: ignore[method-assign]


def _groups(model: Any) -> Iterator[list[nn.Linear]]:
    """All linear layers, those that share a product together."""
    grouped: set[nn.Module] = set()
    for module in model.modules():
        for names in _SIBLINGS:
            layers = [layer for name in names if type(layer := getattr(module, name, None)) is nn.Linear]
            if len(layers) == len(names) and len({layer.bias is None for layer in layers}) == 1:
                grouped.update(layers)
                yield layers
    yield from ([layer] for layer in model.modules() if type(layer) is nn.Linear and layer not in grouped)


class Product:
    """The product of one input with the weights of several layers, biases added; `half` as `pack` has it."""

    def __init__(self, layers: list[nn.Linear], *, half: bool) -> None:
        weight = torch.cat([layer.weight.detach() for layer in layers])
        bias = None if layers[0].bias is None else torch.cat([layer.bias.detach() for layer in layers])
        self.half = half
        self._multiply = packed(weight, bias, half=half)
        self._widths = [layer.out_features for layer in layers]
        self._input: torch.Tensor | None = None
        self._parts: tuple[torch.Tensor, ...] = ()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[..., outputs of all layers side by side] in fp32, of `x` [..., inputs]."""
        return self._multiply(x)

    def part(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """What layer number `index` makes of `x`, computed once for layers that are asked one after the other."""
        if x is not self._input:
            self._input, self._parts = x, torch.split(self(x), self._widths, dim=-1)
        part = self._parts[index]
        if index == len(self._widths) - 1:
            self._input, self._parts = None, ()
        return part


def _forward(layer: nn.Linear, product: Product, index: int, x: torch.Tensor) -> torch.Tensor:
    if not product.half and x.numel() // x.shape[-1] > _MOST:
        return nn.functional.linear(x, layer.weight, layer.bias)
    return product.part(index, x)
