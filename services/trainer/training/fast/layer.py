"""One decoder layer as one function of autograd, with a derivative written by hand; used by FastDecoder.

Kept for the backward pass: the input, rotated queries, keys and values, what attention found, the state between the halves, and
gate and up. Normalised states and activations are cheaper to compute again than to keep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from services.trainer.training.fast.attention import Attended, Attention, Inputs
from services.trainer.training.fast.layout import Layout
from services.trainer.training.fast.norm import input_gradient_, inverse_rms, normalised, weight_gradient
from services.trainer.training.fast.projection import Projection, Used
from services.trainer.training.fast.rotary import Rotation, rotate_
from services.trainer.training.fast.swiglu import activated, activated_again, input_gradients


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tokens are, and which of them go on."""

    layout: Layout
    rotation: Rotation
    kept: Tensor | None
    """[M]. Rows that leave the layer, which is the last; None = all."""
    has_adapter: bool = True
    """Whether adapters count."""


class FastLayer:
    """The weights of one layer of transformers' Llama or Qwen2, and how they are used."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norms = (layer.input_layernorm, layer.post_attention_layernorm)
        self.inputs = Projection((attention.q_proj, attention.k_proj, attention.v_proj))
        self.output = Projection((attention.o_proj,))
        self.widen = Projection((mlp.gate_proj, mlp.up_proj))
        self.narrow = Projection((mlp.down_proj,))
        self.head_size: int = attention.head_dim
        self.scale: float = attention.scaling

    @property
    def kept_per_token(self) -> int:
        """Numbers kept for the backward pass; narrow ones of adapters and sums are not counted."""
        states = 2 * len(self.norms[0].weight)
        dropped = sum(each.dropped_inputs for each in (self.inputs, self.output, self.widen, self.narrow))
        return states + self.inputs.width + self.output.inputs + self.widen.width + dropped

    @property
    def learns(self) -> bool:
        """Whether anything of it is trained."""
        return any(parameter.requires_grad for parameter in self.parameters())

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


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FastLayer, place: Place, *parameters: Tensor) -> Tensor:
        first, second = layer.norms
        inverse = inverse_rms(x, first.variance_epsilon)
        outputs, used_inputs = layer.inputs.forward(normalised(x, inverse, first.weight), place.has_adapter)
        inputs = Inputs(*(output.view(len(x), -1, layer.head_size) for output in outputs))
        rotate_(inputs.queries, place.rotation)
        rotate_(inputs.keys, place.rotation)
        attended = Attention(place.layout, layer.scale).forward(inputs)
        (middle,), used_output = layer.output.forward(_chosen(attended.output.flatten(1), place), place.has_adapter)
        middle.add_(_chosen(x, place))
        middle_inverse = inverse_rms(middle, second.variance_epsilon)
        gate_up, used_widen = layer.widen.forward(normalised(middle, middle_inverse, second.weight), place.has_adapter)
        (result,), used_narrow = layer.narrow.forward(activated(*gate_up), place.has_adapter)
        ctx.layer, ctx.place, ctx.parameters = layer, place, parameters
        ctx.used = (used_inputs, used_output, used_widen, used_narrow)
        ctx.save_for_backward(x, inverse, *inputs, *attended, middle, middle_inverse, *gate_up)
        return result.add_(middle)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, inverse, *saved = ctx.saved_tensors
        inputs, attended, mlp = Inputs(*saved[:3]), Attended(*saved[3:5]), saved[5:]
        layer, place = ctx.layer, ctx.place
        used_inputs, used_output, *used_mlp = ctx.used
        gradients: dict[Tensor, Tensor] = {}
        gradient = _mlp_backward(gradient, layer, mlp, used_mlp, gradients)
        found = _chosen(attended.output.flatten(1), place)
        inner = layer.output.backward((gradient,), found, used_output, gradients)
        if place.kept is not None:
            inner, gradient = (_spread(value, place.kept, len(x)) for value in (inner, gradient))
        outputs = Attention(place.layout, layer.scale).backward(inner.view_as(inputs.queries), inputs, attended)
        rotate_(outputs.queries, place.rotation, -1)
        rotate_(outputs.keys, place.rotation, -1)
        wanted, first = ctx.needs_input_grad[0], layer.norms[0]
        flat, states = [output.flatten(1) for output in outputs], normalised(x, inverse, first.weight)
        # The weight of a norm wants the gradient of its output, as its input does.
        if wanted or first.weight.requires_grad:
            inner = layer.inputs.backward(flat, states, used_inputs, gradients)
            gradient = _norm_backward(inner, x, inverse, first, gradients).add_(gradient)
        else:
            layer.inputs.backward_to_weights(flat, states, used_inputs, gradients)
        return (gradient if wanted else None, None, None, *(gradients.get(parameter) for parameter in ctx.parameters))


def _mlp_backward(
    gradient: Tensor,
    layer: FastLayer,
    saved: Sequence[Tensor],
    used: Sequence[list[Used | None]],
    gradients: dict[Tensor, Tensor],
) -> Tensor:
    """∂middle of `gradient` = ∂result."""
    middle, inverse, gate, up = saved
    norm = layer.norms[1]
    silu, activation = activated_again(gate, up)
    inner = layer.narrow.backward((gradient,), activation, used[1], gradients)
    outputs = input_gradients(inner, silu, gate, up)
    inner = layer.widen.backward(outputs, normalised(middle, inverse, norm.weight), used[0], gradients)
    return _norm_backward(inner, middle, inverse, norm, gradients).add_(gradient)


def _norm_backward(gradient: Tensor, x: Tensor, inverse: Tensor, norm: Any, gradients: dict[Tensor, Tensor]) -> Tensor:
    if norm.weight.requires_grad:
        gradients[norm.weight] = weight_gradient(gradient, x, inverse)
    return input_gradient_(gradient, x, inverse, norm.weight)


def _chosen(rows: Tensor, place: Place) -> Tensor:
    return rows if place.kept is None else rows[place.kept]


def _spread(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """[count, ...] with `values` at `rows` and zeros elsewhere. A row may be asked for more than once."""
    return values.new_zeros(count, *values.shape[1:]).index_add_(0, rows, values)
