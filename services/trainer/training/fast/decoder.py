"""The decoder of Llama and Qwen2 on rows of tokens instead of padded rectangles; used by the objectives through Policy."""

from typing import Any

from torch import Tensor

from services.trainer.training.fast.layer import FastLayer, Place
from services.trainer.training.fast.layout import Layout
from services.trainer.training.fast.rotary import Rotation


class FastDecoder:
    """The weights stay where they are, in the modules of transformers; nothing here has a state of its own."""

    def __init__(self, decoder: Any) -> None:
        """`decoder` = LlamaModel or Qwen2Model for which `fits` has found nothing."""
        self._decoder = decoder
        self._layers = [FastLayer(layer) for layer in decoder.layers]

    @property
    def bytes_per_token(self) -> int:
        """What is kept of each token between the forward and the backward pass, a little more than that."""
        return 4 * sum(layer.kept_per_token for layer in self._layers)

    def states(self, layout: Layout, *, has_adapter: bool = True) -> Tensor:
        """[M, H]. Final hidden states of the rows the layout keeps; without `has_adapter` those of the base model."""
        decoder = self._decoder
        x = decoder.embed_tokens(layout.token_ids)
        rotation = Rotation.of(*decoder.rotary_emb(x, layout.positions.unsqueeze(0)))
        everywhere = Place(layout, rotation, None, has_adapter)
        for layer in self._layers[:-1]:
            x = layer(x, everywhere)
        x = self._layers[-1](x, Place(layout, rotation, layout.kept, has_adapter))
        states: Tensor = decoder.norm(x)
        return states
