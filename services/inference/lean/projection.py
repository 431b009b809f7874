"""Linear layers that read the same input, as one product with packed weights; used by the lean layers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from services.inference.packing import Product
from services.inference.row_lora import RowLora


class Projection:
    """`names` are linear layers of the module `parent`, where peft puts adapters in later; `half` as in packed_weight."""

    def __init__(self, parent: Any, names: Sequence[str], lora: RowLora, *, half: bool) -> None:
        self._parent = parent
        self._names = tuple(names)
        self._lora = lora
        self._product = Product([getattr(parent, name) for name in names], half=half)

    def __call__(self, x: Tensor) -> Tensor:
        """[N, outputs of all layers side by side] of `x` [N, inputs], with the adapter of each row."""
        result = self._product(x)
        if self._lora.is_used:
            self._lora.apply_(result, x, tuple(getattr(self._parent, name) for name in self._names))
        return result
