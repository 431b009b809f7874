"""A prompt on its way through the network, a piece at a time, so that rows that write do not wait; used by the running batch."""

import torch
from transformers import DynamicCache

from services.inference.engine import GenerationRequest, Token
from services.inference.logprobs import judged
from services.inference.network import Piece

PIECE = 128
"""Tokens that are read between two steps: a tenth slower than a whole prompt at once, and over in a fraction of a second."""


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

    def next_piece(self, most: int) -> Piece:
        """The next `most` tokens, fewer at the end."""
        start, judged_from = self.position, self._request.judged_from
        tokens = self._request.prompt[start : start + most]
        end = start + len(tokens)
        first = end - 1 if judged_from is None else min(max(start, judged_from - 1), end - 1)
        return Piece(self._request.adapter, tokens, self.cache, end - first)

    def take(self, piece: Piece, logits: torch.Tensor) -> None:
        """The next piece has been read; `logits` [wanted, vocabulary]."""
        self.position += len(piece.tokens)
        if self._request.judged_from is not None:
            self._judge(self.position - piece.wanted, self.position, logits)

    def _judge(self, first: int, end: int, logits: torch.Tensor) -> None:
        following = self._request.prompt[first + 1 : end + 1]
        asked = max(0, (self._request.judged_from or 0) - 1 - first)
        self.judged += judged(following, logits[: len(following)], self._request.logprobs or 0)[asked:]
