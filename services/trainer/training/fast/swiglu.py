"""silu(gate) · up and its derivative; gate and up lie side by side as one product left them, [N, 2 F]."""

import torch
from torch import Tensor
from torch.nn import functional


def activated(gate_up: Tensor) -> Tensor:
    """[N, F]."""
    gate, up = gate_up.chunk(2, -1)
    return functional.silu(gate).mul_(up)


def activated_again(gate_up: Tensor) -> tuple[Tensor, Tensor]:
    """(silu(gate), silu(gate) · up), [N, F] each: the derivative needs both."""
    gate, up = gate_up.chunk(2, -1)
    silu = functional.silu(gate)
    return silu, silu * up


def gate_up_gradient(gradient: Tensor, silu: Tensor, gate_up: Tensor) -> Tensor:
    """∂gate_up [N, 2 F] of `gradient` = ∂activation [N, F], which is overwritten."""
    gate, up = gate_up.chunk(2, -1)
    result = torch.empty_like(gate_up)
    gate_part, up_part = result.chunk(2, -1)
    torch.mul(gradient, silu, out=up_part)
    torch.ops.aten.silu_backward.grad_input(gradient.mul_(up), gate, grad_input=gate_part)
    return result
