"""Who looks at what: rows that write at their columns of the batch's cache, prompts at themselves; used by the lean network."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache

from services.inference.network import Piece

# Columns that are read for nothing rather than in a call of their own: about as long as a call takes.
_SPARE_COLUMNS = 512


class Writing:
    """One token of each row. Rows beside each other that are about as long are looked at together."""

    def __init__(self, cache: Cache, positions: Tensor) -> None:
        """`positions` [rows] are those of the tokens."""
        self._cache = cache
        # Masks are made once for all layers.
        self._groups = [(rows, int(positions[rows].max()) + 1, _padding(positions[rows])) for rows in _groups(positions.tolist())]

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See Attend. Query heads that share a key head take the place of positions, so that no key is repeated."""
        all_keys, all_values = self._cache.update(keys.unsqueeze(2), values.unsqueeze(2), layer)
        grouped = queries.view(len(queries), keys.shape[1], -1, queries.shape[-1])
        seen = [
            functional.scaled_dot_product_attention(
                grouped[rows], all_keys[rows, :, -width:], all_values[rows, :, -width:], attn_mask=mask
            )
            for rows, width, mask in self._groups
        ]
        return torch.cat(seen).view(len(queries), -1)


class Reading:
    """Pieces of prompts, one behind the other. What they give to their caches is kept apart until all layers have it."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._masks = [_mask(piece.cache.get_seq_length(), len(piece.tokens)) for piece in pieces]
        self._states: list[tuple[int, Piece, Tensor, Tensor]] = []

    def __call__(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See Attend."""
        lengths = [len(piece.tokens) for piece in self._pieces]
        states = zip(*(_split(states, lengths) for states in (queries, keys, values)), strict=True)
        return torch.cat([self._seen(layer, number, *each) for number, each in enumerate(states)])

    def keep(self) -> None:
        """Gives all keys and values to the caches of their prompts."""
        for layer, piece, keys, values in self._states:
            piece.cache.update(keys, values, layer)

    def _seen(self, layer: int, number: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        piece, mask = self._pieces[number], self._masks[number]
        self._states.append((layer, piece, keys, values))
        if mask is not None:
            before = piece.cache.layers[layer]
            keys, values = torch.cat((before.keys, keys), dim=2), torch.cat((before.values, values), dim=2)
        seen = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return seen[0].transpose(0, 1).flatten(1)


def _groups(positions: Sequence[int]) -> list[slice]:
    groups: list[slice] = []
    start = 0
    for end in range(1, len(positions) + 1):
        if end == len(positions) or _spare(positions[start : end + 1]) > _SPARE_COLUMNS:
            groups.append(slice(start, end))
            start = end
    return groups


def _spare(positions: Sequence[int]) -> int:
    return max(positions) * len(positions) - sum(positions)


def _padding(positions: Tensor) -> Tensor | None:
    """What is added to the products of rows whose last tokens have these positions, [rows, 1, 1, columns]; None = nothing."""
    last = positions.max()
    if bool((positions == last).all()):
        return None
    columns = torch.arange(int(last) + 1)
    return torch.zeros(len(positions), len(columns)).masked_fill_(columns < (last - positions)[:, None], -torch.inf)[
        :, None, None
    ]


def _split(states: Tensor, lengths: list[int]) -> list[Tensor]:
    """[1, heads, tokens, D] of each piece."""
    return [part.transpose(0, 1).unsqueeze(0) for part in torch.split(states, lengths)]


def _mask(before: int, length: int) -> Tensor | None:
    """What is added to the products of `length` tokens with themselves and those `before` them; None = nothing stands before."""
    if not before:
        return None
    return torch.full((length, before + length), -torch.inf).triu_(before + 1)
