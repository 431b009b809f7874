"""The forward pass of a base model with its adapters: the port, and the one of transformers itself; used by the running batch."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from services.inference.adapters import Adapters
from services.inference.row_cache import RowCache


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one prompt that are read at once. `cache` has the keys and values of those before them, and gets theirs."""

    adapter: str | None
    tokens: tuple[int, ...]
    cache: DynamicCache
    wanted: int
    """Logits are wanted behind so many of its last tokens."""


class Network(Protocol):
    """Weights that compute logits. All errors are those of torch: RuntimeError, ValueError, IndexError."""

    adapters: Adapters
    prompts_at_once: int
    """So many pieces may be read together. When that fails, all their caches are as they were, unless it is 1."""

    def read(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """Logits [wanted, vocabulary] of each piece."""

    def write(self, last: Sequence[int], adapters: Sequence[str | None], cache: RowCache, rows: slice) -> Tensor:
        """Logits [rows, vocabulary] behind the `last` token of each of these rows of the cache."""


class StockNetwork:
    """A model as transformers computes it, of any family."""

    prompts_at_once = 1

    def __init__(self, model: Any) -> None:
        self.model = model
        head = model.get_output_embeddings()
        linear = {path: each for path, each in model.named_modules() if type(each) is nn.Linear and each is not head}
        self.adapters = Adapters(model, linear)
        self.adapters.rows.follow(linear.values())

    def read(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """See Network."""
        (piece,) = pieces
        self.adapters.route([piece.adapter])
        # Only these positions are needed; over the whole prompt the output head would cost as much as the rest of the model.
        output = self.model(
            input_ids=torch.tensor([piece.tokens]),
            past_key_values=piece.cache,
            use_cache=True,
            logits_to_keep=piece.wanted,
        )
        return [output.logits[0]]

    def write(self, last: Sequence[int], adapters: Sequence[str | None], cache: RowCache, rows: slice) -> Tensor:
        """See Network."""
        self.adapters.route(adapters)
        columns, positions, mask = cache.next_column(rows)
        output = self.model(
            input_ids=torch.tensor(last)[:, None],
            position_ids=positions,
            attention_mask=mask,
            past_key_values=columns,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits
