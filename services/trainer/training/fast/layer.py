"""One decoder layer as one function of autograd, with a derivative written by hand; used by FastDecoder.

Kept for the backward pass: the input, rotated queries, keys and values, what attention found, the state between the halves, and
gate and up. Normalised states and activations are cheaper to compute again than to keep.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from services.trainer.training.fast.attention import Attended, Attention, Heads
from services.trainer.training.fast.layout import Layout
from services.trainer.training.fast.norm import input_gradient_, inverse_rms, normalised, weight_gradient
from services.trainer.training.fast.projection import Projection, Used
from services.trainer.training.fast.rotary import Rotation, rotate_
from services.trainer.training.fast.swiglu import activated, activated_again, gate_up_gradient


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tokens are, and which of them go on."""

    layout: Layout
    rotation: Rotation
    kept: Tensor | None
    """[M]. Rows that leave the layer, which is the last; None = all."""


class FastLayer:
    """The weights of one layer of transformers' Llama or Qwen2, and how they are used."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norms = (layer.input_layernorm, layer.post_attention_layernorm)
        self.inputs = Projection((attention.q_proj, attention.k_proj, attention.v_proj))
        self.output = Projection((attention.o_proj,))
        self.widen = Projection((mlp.gate_proj, mlp.up_proj))
        self.narrow = Projection((mlp.down_proj,))
        shape = attention.config
        self.heads = Heads(shape.num_attention_heads, shape.num_key_value_heads, attention.head_dim, attention.scaling)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Everything that may be trained."""
        for norm in self.norms:
            yield norm.weight
        for projection in (self.inputs, self.output, self.widen, self.narrow):
            yield from projection.parameters()

    def __call__(self, x: Tensor, place: Place) -> Tensor:
        """[M, H] (or [N, H]) of `x` [N, H]."""
        result: Tensor = _Layer.apply(x, self, place, *self.parameters())  # type: ignore[no-untyped-call]
        return result

    @property
    def kept_per_token(self) -> int:
        """Numbers kept for the backward pass; narrow ones of adapters and sums are not counted."""
        states = 2 * len(self.norms[0].weight)
        return states + self.inputs.width + self.heads.queries * self.heads.size + self.widen.width

    def rotated(self, rows: Tensor) -> Tensor:
        """View [N, Q + K, D] of queries and keys."""
        return self.heads.cut(rows)[:, : self.heads.queries + self.heads.keys]


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FastLayer, place: Place, *parameters: Tensor) -> Tensor:
        first, second = layer.norms
        inverse = inverse_rms(x, first.variance_epsilon)
        rows, used_inputs = layer.inputs.forward(normalised(x, inverse, first.weight))
        rotate_(layer.rotated(rows), place.rotation)
        attended = Attention(layer.heads, place.layout).forward(rows)
        found = attended.output.flatten(1)
        chosen, residual = (found, x) if place.kept is None else (found[place.kept], x[place.kept])
        middle, used_output = layer.output.forward(chosen, residual)
        middle_inverse = inverse_rms(middle, second.variance_epsilon)
        gate_up, used_widen = layer.widen.forward(normalised(middle, middle_inverse, second.weight))
        result, used_narrow = layer.narrow.forward(activated(gate_up), middle)
        ctx.layer, ctx.place, ctx.parameters = layer, place, parameters
        ctx.used = (used_inputs, used_output, used_widen, used_narrow)
        ctx.save_for_backward(x, inverse, rows, attended.output, attended.total, middle, middle_inverse, gate_up)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, rows, output, total, *mlp = ctx.saved_tensors
        layer, place = ctx.layer, ctx.place
        used_inputs, used_output, *used_mlp = ctx.used
        gradients: dict[Tensor, Tensor] = {}
        gradient = _mlp_backward(gradient, layer, mlp, used_mlp, gradients)
        found = output.flatten(1)
        chosen = found if place.kept is None else found[place.kept]
        inner = layer.output.backward(gradient, chosen, used_output, gradients)
        if place.kept is not None:
            inner, gradient = (_spread(value, place.kept, len(x)) for value in (inner, gradient))
        attention = Attention(layer.heads, place.layout)
        row_gradient = attention.backward(layer.heads.cut(inner), Attended(rows, output, total))
        rotate_(layer.rotated(row_gradient), place.rotation, -1)
        wanted, first = ctx.needs_input_grad[0], layer.norms[0]
        states = normalised(x, inverse, first.weight)
        # The weight of a norm wants the gradient of its output, as its input does.
        through = wanted or first.weight.requires_grad
        if through:
            inner = layer.inputs.backward(row_gradient, states, used_inputs, gradients)
            gradient = _norm_backward(inner, x, inverse, first, gradients).add_(gradient)
        else:
            layer.inputs.backward_to_weights(row_gradient, states, used_inputs, gradients)
        return (gradient if wanted else None, None, None, *(gradients.get(parameter) for parameter in ctx.parameters))


def _mlp_backward(
    gradient: Tensor, layer: FastLayer, saved: list[Tensor], used: list[Used], gradients: dict[Tensor, Tensor]
) -> Tensor:
    """∂middle of `gradient` = ∂result."""
    middle, inverse, gate_up = saved
    norm = layer.norms[1]
    silu, activation = activated_again(gate_up)
    inner = layer.narrow.backward(gradient, activation, used[1], gradients)
    wide = gate_up_gradient(inner, silu, gate_up)
    states = normalised(middle, inverse, norm.weight)
    inner = layer.widen.backward(wide, states, used[0], gradients)
    return _norm_backward(inner, middle, inverse, norm, gradients).add_(gradient)


def _norm_backward(gradient: Tensor, x: Tensor, inverse: Tensor, norm: Any, gradients: dict[Tensor, Tensor]) -> Tensor:
    if norm.weight.requires_grad:
        gradients[norm.weight] = weight_gradient(gradient, x, inverse)
    return input_gradient_(gradient, x, inverse, norm.weight)


def _spread(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """[count, ...] with `values` at `rows` and zeros elsewhere. A row may be asked for more than once."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, rows, values)
