"""One layer of Llama or Qwen2 on rows of tokens, whichever sequences they belong to; used by the lean network."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from services.inference.lean.projection import Projection
from services.inference.row_lora import RowLora

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(number of the layer, queries [N, heads, D], keys and values [N, key heads, D]) -> what the queries see [N, heads · D]."""


class Rotation(NamedTuple):
    """Angles of N tokens, [N, 1, D] each; the first half of `sine` is negative."""

    cosine: Tensor
    sine: Tensor

    @classmethod
    def of(cls, cosine: Tensor, sine: Tensor) -> "Rotation":
        """From [1, N, D] as transformers computes them."""
        first, second = sine[0, :, None].chunk(2, dim=-1)
        return cls(cosine[0, :, None], torch.cat((-first, second), dim=-1))

    def turned(self, heads: Tensor) -> Tensor:
        """`heads` [N, heads, D] with their halves rotated against each other, as in transformers' Llama."""
        swapped = heads.roll(heads.shape[-1] // 2, -1)
        return torch.mul(heads, self.cosine).addcmul_(swapped, self.sine)


class Norm:
    """What transformers' RMSNorm does, in fewer operations: x w / sqrt(mean x² + ε) = x (w sqrt H) / sqrt(sum x² + H ε)."""

    def __init__(self, norm: Any) -> None:
        width: int = norm.weight.shape[0]
        self._weight = norm.weight.detach() * width**0.5
        self._least = norm.weight.new_full((1, 1), width * norm.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        """`x` [N, H] normalised."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.mul(x, torch.addcmul(self._least, length, length).rsqrt_()).mul_(self._weight)


class LeanLayer:
    """The weights are those of a layer of transformers; `half` as in packed_weight."""

    def __init__(self, layer: Any, lora: RowLora, *, half: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._number: int = attention.layer_idx
        self._width: int = attention.head_dim
        self._queries = attention.q_proj.out_features // self._width
        self._turned = self._queries + attention.k_proj.out_features // self._width
        self._norms = (Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm))
        self._heads = Projection(attention, ("q_proj", "k_proj", "v_proj"), lora, half=half)
        self._mixed = Projection(attention, ("o_proj",), lora, half=half)
        self._gate_and_up = Projection(mlp, ("gate_proj", "up_proj"), lora, half=half)
        self._down = Projection(mlp, ("down_proj",), lora, half=half)

    def add_(self, x: Tensor, rotation: Rotation, attend: Attend) -> None:
        """Turns the hidden states `x` [N, H] before the layer into those behind it."""
        self.add_seen_(x, self.seen(x, rotation, attend))

    def seen(self, x: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        """What `attend` gives for each token, [N, heads · D]."""
        heads = self._heads(self._norms[0](x)).view(len(x), -1, self._width)
        turned = rotation.turned(heads[:, : self._turned])
        return attend(self._number, turned[:, : self._queries], turned[:, self._queries :], heads[:, self._turned :])

    def add_seen_(self, x: Tensor, seen: Tensor) -> None:
        """The rest of the layer, in which every token is alone."""
        x += self._mixed(seen)
        gate, up = self._gate_and_up(self._norms[1](x)).chunk(2, dim=-1)
        x += self._down(functional.silu(gate).mul_(up))


def projections(layer: Any) -> Iterator[tuple[Any, str]]:
    """Module and name of every linear layer."""
    yield from ((layer.self_attn, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    yield from ((layer.mlp, name) for name in ("gate_proj", "up_proj", "down_proj"))
