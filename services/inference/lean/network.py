"""Llama and Qwen2 without the modules of transformers: few operations a layer, and no padding; used by the running batch."""

import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from services.inference.adapters import Adapters
from services.inference.lean.attention import Reading, Writing
from services.inference.lean.layer import Attend, LeanLayer, Norm, Rotation, projections
from services.inference.lean.projection import Projection
from services.inference.network import Piece
from services.inference.row_cache import RowCache


class LeanNetwork:
    """See Network; for a model that `fits`. Weights are kept a second time, packed; `half` as in packed_weight."""

    prompts_at_once = 64

    def __init__(self, model: Any, *, half: bool = False) -> None:
        self.model = model
        self._decoder = model.get_decoder()
        applied = {getattr(parent, name) for layer in self._decoder.layers for parent, name in projections(layer)}
        self.adapters = Adapters(model, {path: module for path, module in model.named_modules() if module in applied})
        # Weights are brought into their order by one thread each.
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            packed = functools.partial(LeanLayer, lora=self.adapters.rows, half=half)
            self._layers = list(threads.map(packed, self._decoder.layers))
        self._norm = Norm(self._decoder.norm)
        self._head = Projection(model, ("lm_head",), self.adapters.rows, half=half)

    def read(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """See Network."""
        reading = Reading(pieces)
        ids = torch.tensor([token for piece in pieces for token in piece.tokens])
        starts = [piece.cache.get_seq_length() for piece in pieces]
        spans = [torch.arange(start, start + len(piece.tokens)) for start, piece in zip(starts, pieces, strict=True)]
        self.adapters.route([piece.adapter for piece in pieces for _ in piece.tokens])
        x, seen = self._seen(ids, torch.cat(spans), reading)
        self.adapters.route([piece.adapter for piece in pieces for _ in range(piece.wanted)])
        wanted = _wanted(pieces)
        logits = torch.split(self._logits(x[wanted], seen[wanted]), [piece.wanted for piece in pieces])
        reading.keep()
        return list(logits)

    def write(self, last: Sequence[int], adapters: Sequence[str | None], cache: RowCache, rows: slice) -> Tensor:
        """See Network."""
        self.adapters.route(adapters)
        columns, positions, _ = cache.next_column(rows)
        return self._logits(*self._seen(torch.tensor(last), positions[:, 0], Writing(columns, positions[:, 0])))

    def _seen(self, ids: Tensor, positions: Tensor, attend: Attend) -> tuple[Tensor, Tensor]:
        """Hidden states [N, H] of the tokens `ids` [N] before the last layer, and what they see there [N, heads · D]."""
        x: Tensor = self._decoder.embed_tokens(ids)
        rotation = Rotation.of(*self._decoder.rotary_emb(x, positions[None]))
        for layer in self._layers[:-1]:
            layer.add_(x, rotation, attend)
        return x, self._layers[-1].seen(x, rotation, attend)

    def _logits(self, x: Tensor, seen: Tensor) -> Tensor:
        """Of tokens before the last layer's rest, for which alone the others need not be there."""
        self._layers[-1].add_seen_(x, seen)
        return self._head(self._norm(x))


def _wanted(pieces: Sequence[Piece]) -> Tensor:
    """Places of the tokens behind which logits are wanted, [tokens], among those of all pieces."""
    ends = itertools.accumulate(len(piece.tokens) for piece in pieces)
    return torch.cat([torch.arange(end - piece.wanted, end) for end, piece in zip(ends, pieces, strict=True)])
