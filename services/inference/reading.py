"""A prompt on its way through the model, a piece at a time, so that rows that write do not wait; used by the running batch."""

from typing import Any

import torch
from transformers import DynamicCache

from services.inference.engine import GenerationRequest, Token
from services.inference.logprobs import judged

PIECE = 128
"""Tokens of one forward pass: a tenth slower than a whole prompt at once, and over in a fraction of a second."""


class Reading:
    """How far a prompt has been read. `cache` holds the keys and values of what is behind `position`; `judged` its judgement."""

    def __init__(self, request: GenerationRequest, cache: DynamicCache) -> None:
        self._request = request
        self.cache = cache
        self.position = int(cache.get_seq_length())
        self.judged: list[Token] = [Token(request.prompt[0])] if request.judged_from == 0 else []

    @property
    def is_done(self) -> bool:
        """Whether the whole prompt has been read."""
        return self.position >= len(self._request.prompt)

    def read_piece(self, model: Any) -> torch.Tensor:
        """Reads the next piece; returns the logits behind its last token, shape [vocabulary]."""
        prompt, start = self._request.prompt, self.position
        end = min(start + PIECE, len(prompt))
        first = end - 1 if self._request.judged_from is None else min(max(start, self._request.judged_from - 1), end - 1)
        # Only these positions are needed; over the whole prompt the output head would cost as much as the rest of the model.
        output = model(
            input_ids=torch.tensor([prompt[start:end]]), past_key_values=self.cache, use_cache=True, logits_to_keep=end - first
        )
        logits: torch.Tensor = output.logits[0]
        self.position = end
        if self._request.judged_from is not None:
            self._judge(first, end, logits)
        return logits[-1]

    def _judge(self, first: int, end: int, logits: torch.Tensor) -> None:
        following = self._request.prompt[first + 1 : end + 1]
        asked = max(0, (self._request.judged_from or 0) - 1 - first)
        self.judged += judged(following, logits[: len(following)], self._request.logprobs or 0)[asked:]
