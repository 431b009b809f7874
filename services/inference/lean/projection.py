"""Linear layers that read the same input, as one product with packed weights; used by the lean layers."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from services.inference.packing import packed, product
from services.inference.row_lora import RowLora


class Projection:
    """`names` are linear layers of the module `parent`, where peft puts adapters in later; `half` as in packing."""

    def __init__(self, parent: Any, names: Sequence[str], lora: RowLora, *, half: bool) -> None:
        layers = [getattr(parent, name) for name in names]
        self._parent = parent
        self._names = tuple(names)
        self._lora = lora
        self._half = half
        self._weight = packed(torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight, half=half)
        self._bias = torch.cat([layer.bias for layer in layers]) if layers[0].bias is not None else None

    def __call__(self, x: Tensor) -> Tensor:
        """[N, outputs of all layers side by side] of `x` [N, inputs], with the adapter of each row."""
        result = product(x, self._weight, self._bias, half=self._half)
        if self._lora.is_used:
            self._lora.apply_(result, x, tuple(getattr(self._parent, name) for name in self._names))
        return result
