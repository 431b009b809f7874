"""The decoder of Llama and Qwen2 on rows of tokens instead of padded rectangles; used by the objectives through Policy."""

from typing import Any

import torch
from torch import Tensor

from services.trainer.training.fast.layer import FastLayer, Place
from services.trainer.training.fast.layout import Layout
from services.trainer.training.fast.rotary import Rotation


class FastDecoder:
    """The weights stay where they are, in the modules of transformers; nothing here has a state of its own."""

    def __init__(self, decoder: Any) -> None:
        """`decoder` = LlamaModel or Qwen2Model for which `fits` has found nothing."""
        self._decoder = decoder
        layers = [FastLayer(layer) for layer in decoder.layers]
        learns = [decoder.embed_tokens.weight.requires_grad, *(layer.learns for layer in layers)]
        # What the first layer that learns reads is a constant: below it there is no derivative.
        first = max(0, learns.index(True) - 1) if any(learns) else len(layers) - 1
        self._frozen, self._layers = layers[:first], layers[first:]

    @property
    def bytes_per_token(self) -> int:
        """What is kept of each token between the forward and the backward pass, a little more than that."""
        # Of the frozen layers one at a time is in memory.
        return 4 * sum(layer.kept_per_token for layer in (*self._frozen[:1], *self._layers))

    def states(self, layout: Layout, *, has_adapter: bool = True) -> Tensor:
        """[M, H]. Final hidden states of the rows the layout keeps; without `has_adapter` those of the base model."""
        decoder = self._decoder
        x = decoder.embed_tokens(layout.token_ids)
        rotation = Rotation.of(*decoder.rotary_emb(x, layout.positions.unsqueeze(0)))
        everywhere = Place(layout, rotation, None, has_adapter)
        with torch.no_grad():
            for layer in self._frozen:
                x = layer(x, everywhere)
        for layer in self._layers[:-1]:
            x = layer(x, everywhere)
        x = self._layers[-1](x, Place(layout, rotation, layout.kept, has_adapter))
        states: Tensor = decoder.norm(x)
        return states
