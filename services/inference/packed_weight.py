"""A weight a second time, in the order and the precision in which a CPU multiplies a few rows by it fastest; used by packing.

A matrix product of up to 128 rows spends much of its time on bringing the weight into such an order, anew in every step, and the
rest on reading it from memory. So a weight that loses nothing in fp16 is kept in fp16 (FBGEMM's order), half as many bytes:
inputs, sums and results are fp32 all the same. Any other is kept in fp32 (oneDNN's order), or, when half the precision is asked
for, in bfloat16, which rounds inputs and results, too. In all three a row gets the same digits however many rows are beside it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from services.inference.packing_bytes import MOST_OUTPUTS

Multiply = Callable[[Tensor], Tensor]
"""[..., outputs] in fp32, of [..., inputs] in fp32; the bias is added."""

_LOST_AT_MOST = 2.0**-25
"""Half a step of fp16 next to 0, where numbers that were bfloat16 before may lose digits. fp32 itself rounds as much below 1."""
_USUAL_ROWS = 8


def packed(weight: Tensor, bias: Tensor | None, *, half: bool) -> Multiply:
    """The product with `weight` [outputs, inputs] and `bias` [outputs]; `half` = in bfloat16 in any case."""
    if half:
        return _in_bfloat16(weight, bias)
    return _in_float16(weight, bias) if fits_into_float16(weight) else _in_float32(weight, bias)


def fits_into_float16(weight: Tensor) -> bool:
    """Whether no number loses more than fp32 rounds anyway, and this processor can soon multiply such weights."""
    # FBGEMM brings a number into its order in 25 ns, of an output head in 100: there seconds at the start for a tenth of a step.
    can_multiply = "fbgemm" in torch.backends.quantized.supported_engines and len(weight) <= MOST_OUTPUTS
    return can_multiply and bool((weight.half().float() - weight).abs().max() <= _LOST_AT_MOST)


def _in_float16(weight: Tensor, bias: Tensor | None) -> Multiply:
    order = torch.ops.quantized.linear_prepack_fp16(weight, bias)
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, order)


def _in_float32(weight: Tensor, bias: Tensor | None) -> Multiply:
    order = _ordered(weight)
    return lambda x: _product(x, order, bias)


def _in_bfloat16(weight: Tensor, bias: Tensor | None) -> Multiply:
    order = _ordered(weight.bfloat16())

    def multiply(x: Tensor) -> Tensor:
        result = _product(x.bfloat16(), order, None).float()
        return result if bias is None else result.add_(bias)

    return multiply


def _ordered(weight: Tensor) -> Tensor:
    order: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)
    return order


def _product(x: Tensor, order: Tensor, bias: Tensor | None) -> Tensor:
    if x.numel() == x.shape[-1]:
        # A row alone goes another way through oneDNN on some processors, which sums in another order; two take no longer.
        return _product(x.expand(2, *x.shape[1:]), order, bias)[:1]
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, order, bias, "none", [], "")
    return product
