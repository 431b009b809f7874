"""Weights a second time, in the order that a CPU reads fastest for a few rows at once; used by the engine and
its lean forward pass.

A matrix product of 2 to 128 rows spends much of its time on bringing the weights into such an order, anew in every step. Kept
that way (oneDNN's), SmolLM2's products of 8 rows take 0.4 times as long; those of one row are faster as they are.

In half the precision (bfloat16: inputs, weights and results of these products, and nothing else) half the bytes are read.
"""

import functools
from typing import Any

import torch
from torch import nn

_FEWEST, _MOST = 2, 128
_USUAL = 8


def is_packable(model: Any) -> bool:
    """Whether this build of torch can do so, for weights in fp32 on the CPU."""
    weight = model.get_output_embeddings().weight
    has_library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(has_library and weight.device.type == "cpu" and weight.dtype is torch.float32)


def pack(model: Any, *, half: bool = False) -> None:
    """Lets every linear layer use packed weights where they are faster; `half` = in bfloat16, and always.

    To be done before adapters are put in.
    """
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.forward = functools.partial(_forward, layer, packed(layer.weight, half=half), half)  # type: ignore[method-assign]


def packed(weight: torch.Tensor, *, half: bool) -> torch.Tensor:
    """A weight [outputs, inputs] for `product`."""
    weight = weight.detach().bfloat16() if half else weight.detach()
    return torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL)  # type: ignore[no-any-return]


def product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *, half: bool) -> torch.Tensor:
    """x Wᵀ + bias [..., outputs] in fp32, of `x` [..., inputs] in fp32 and a packed weight."""
    if not half:
        return _product(x, weight, bias)
    result = _product(x.bfloat16(), weight, None).float()
    return result if bias is None else result.add_(bias)


def _forward(layer: nn.Linear, weight: torch.Tensor, half: bool, x: torch.Tensor) -> torch.Tensor:
    rows = x.numel() // x.shape[-1]
    if half or _FEWEST <= rows <= _MOST:
        return product(x, weight, layer.bias, half=half)
    return nn.functional.linear(x, layer.weight, layer.bias)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return result
