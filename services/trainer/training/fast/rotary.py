"""Rotary position embeddings in place; halves of a head are rotated against each other, as in transformers' Llama."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rotation:
    """Angles of N tokens."""

    cosine: Tensor
    """[N, 1, D / 2]."""
    sine: Tensor
    """[N, 1, D / 2]."""

    @classmethod
    def of(cls, cosine: Tensor, sine: Tensor) -> "Rotation":
        """From [1, N, D], whose second half repeats the first."""
        half = cosine.shape[-1] // 2
        return cls(cosine[0, :, None, :half].contiguous(), sine[0, :, None, :half].contiguous())


def rotate_(heads: Tensor, rotation: Rotation, direction: int = 1) -> None:
    """Turn `heads` [N, heads, D] in place; direction -1 turns back, which is also the derivative."""
    half = heads.shape[-1] // 2
    first, second = heads[..., :half], heads[..., half:]
    turned = torch.mul(second, rotation.cosine).addcmul_(first, rotation.sine, value=direction)
    first.mul_(rotation.cosine).addcmul_(second, rotation.sine, value=-direction)
    second.copy_(turned)
