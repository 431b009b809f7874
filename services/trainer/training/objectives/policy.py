"""The model in training as objectives see it: as it is now, and as it was before training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel

from services.trainer.training.fast import FastDecoder


class Policy:
    """A causal language model or classifier of transformers, with or without a peft adapter in it."""

    def __init__(self, model: Any, decoder: FastDecoder | None = None, *, packs: bool = False) -> None:
        """`decoder` = what computes the hidden states instead of the model's own decoder, from the same weights."""
        self._model = model
        self.fast_decoder = decoder
        self.has_adapter = True
        """Whether `fast_decoder` is to use the adapter now. Of this policy alone: others of the same model run beside it."""
        self.packs = packs
        """The model's own decoder takes sequences behind each other; see `packed`."""

    @property
    def network(self) -> Any:
        """The model of transformers; an adapter's layers are inside."""
        return self._model.get_base_model() if isinstance(self._model, PeftModel) else self._model

    @contextmanager
    def as_before_training(self) -> Iterator[None]:
        """Inside, the adapter is switched off, and nothing has a gradient. Full tuning has no such way back."""
        if not isinstance(self._model, PeftModel):
            raise TypeError("without an adapter the reference must be computed before training")
        with torch.no_grad():
            if self.fast_decoder is None:
                with self._model.disable_adapter():
                    yield
            else:
                self.has_adapter = False
                try:
                    yield
                finally:
                    self.has_adapter = True
