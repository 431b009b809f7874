"""silu(gate) · up and its derivative; all tensors [N, F]."""

import torch
from torch import Tensor
from torch.nn import functional


def activated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up."""
    return functional.silu(gate).mul_(up)


def activated_again(gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """(silu(gate), silu(gate) · up): the derivative needs both."""
    silu = functional.silu(gate)
    return silu, silu * up


def input_gradients(gradient: Tensor, silu: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """(∂gate, ∂up) of `gradient` = ∂activation; `gradient` and `silu` are overwritten."""
    up_gradient = silu.mul_(gradient)
    gate_gradient = torch.ops.aten.silu_backward.grad_input(gradient.mul_(up), gate, grad_input=gradient)
    return gate_gradient, up_gradient
