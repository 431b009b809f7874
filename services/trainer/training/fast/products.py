"""Matrix products by whichever library of torch is faster for their shape; all of them exact to rounding.

Weights of bf16 are multiplied with inputs that are rounded to bf16, too. Products are added up in fp32; torch then rounds the sum
once more, and what calls goes on in fp32.

In fp32 oneDNN is a tenth faster than MKL, which `torch.mm` takes, for large matrices. MKL in turn is several times slower when a
narrow matrix stands on the wrong side, so narrow ones are laid out first.
"""

import torch
from torch import Tensor

_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def times(x: Tensor, weight: Tensor) -> Tensor:
    """x weight [N, outputs], fp32 at least, of `x` [N, inputs] and a large `weight` [inputs, outputs]."""
    if weight.dtype == torch.bfloat16:
        return (x.to(torch.bfloat16) @ weight).float()
    if not _HAS_ONEDNN or x.dtype != torch.float32 or len(x) == 0:
        return x @ weight
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight.T, None, "none", [], "")
    return result


def narrowed(x: Tensor, narrow: Tensor) -> Tensor:
    """x narrow [N, rank] of `narrow` [inputs, rank]."""
    return x @ narrow.T.contiguous().T


def add_widened_(result: Tensor, x: Tensor, wide: Tensor, scaling: float = 1.0) -> Tensor:
    """result + scaling · x wide of `x` [N, rank] and `wide` [rank, outputs], in place."""
    return result.addmm_(x, wide.contiguous(), alpha=scaling)


def outer(narrow: Tensor, x: Tensor) -> Tensor:
    """narrowᵀ x [rank, inputs] of `narrow` [N, rank]."""
    return narrow.T @ x
