"""RMS normalisation and its derivative on rows [N, H], in few passes over memory. x̂ = w · x · r with r = (mean(x²) + ε)^-½."""

import torch
from torch import Tensor


def inverse_rms(x: Tensor, epsilon: float) -> Tensor:
    """r [N, 1]."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()


def normalised(x: Tensor, inverse: Tensor, weight: Tensor) -> Tensor:
    """x̂ [N, H]."""
    return torch.mul(x, inverse).mul_(weight)


def weight_gradient(gradient: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
    """∂w [H] of `gradient` = ∂x̂."""
    return (gradient * x).mul_(inverse).sum(0)


def input_gradient_(gradient: Tensor, x: Tensor, inverse: Tensor, weight: Tensor) -> Tensor:
    """∂x [N, H] of `gradient` = ∂x̂, which is overwritten: r·(∂x̂·w) - x·r³·mean(∂x̂·w·x)."""
    gradient.mul_(weight)
    projected = torch.linalg.vecdot(gradient, x).unsqueeze_(-1).div_(x.shape[-1])
    return gradient.mul_(inverse).addcmul_(x, projected * inverse.pow(3), value=-1)
