"""Keys and values of the beginnings of prompts that were read lately; used by the running batch.

So a system message, the turns before the last one, and a question asked `n` times are computed once.
"""

from collections import OrderedDict
from collections.abc import Iterator

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_BLOCK = 32
"""Tokens that are kept and forgotten together."""

# The adapter, and the prompt up to and including the block: what a block holds depends on all that comes before it.
_Key = tuple[str | None, tuple[int, ...]]
_Block = list[tuple[torch.Tensor, torch.Tensor]]


class PrefixStore:
    """Blocks of keys and values of at most `max_tokens` tokens; what was used longest ago is forgotten first."""

    def __init__(self, max_tokens: int) -> None:
        self._max_blocks = max_tokens // _BLOCK
        self._blocks: OrderedDict[_Key, _Block] = OrderedDict()

    def find(self, adapter: str | None, prompt: tuple[int, ...]) -> DynamicCache:
        """A cache of the longest known beginning, at least one token shorter than the prompt; empty when none is known."""
        found: list[_Block] = []
        for key in _keys(adapter, prompt[:-1]):
            if key not in self._blocks:
                break
            self._blocks.move_to_end(key)
            found.append(self._blocks[key])
        cache = DynamicCache()
        for index, parts in enumerate(zip(*found, strict=True)):
            keys, values = (torch.cat(states, dim=-2) for states in zip(*parts, strict=True))
            cache.update(keys, values, index)
        return cache

    def keep(self, adapter: str | None, prompt: tuple[int, ...], cache: DynamicCache) -> None:
        """Remembers the whole blocks of a prompt that `cache` holds."""
        if not all(type(layer) is DynamicLayer for layer in cache.layers):
            return  # A sliding window has lost the beginning.
        for number, key in enumerate(_keys(adapter, prompt)):
            if key not in self._blocks and number < self._max_blocks:
                here = slice(number * _BLOCK, (number + 1) * _BLOCK)
                self._blocks[key] = [(_part(layer.keys, here), _part(layer.values, here)) for layer in cache.layers]
        while len(self._blocks) > self._max_blocks:
            self._blocks.popitem(last=False)

    def would_help(self, prompt: tuple[int, ...], position: int, other: tuple[int, ...]) -> bool:
        """Whether a prompt of the same adapter, read up to `position`, could go on with what `other` leaves here."""
        end = position + _BLOCK
        return self._max_blocks > 0 and end < len(prompt) and prompt[:end] == other[:end]

    def forget(self, adapter: str) -> None:
        """What was computed with an adapter: another of the same name may follow."""
        for key in [key for key in self._blocks if key[0] == adapter]:
            del self._blocks[key]


def _keys(adapter: str | None, prompt: tuple[int, ...]) -> Iterator[_Key]:
    return ((adapter, prompt[:end]) for end in range(_BLOCK, len(prompt) + 1, _BLOCK))


def _part(states: torch.Tensor, here: slice) -> torch.Tensor:
    # A view would keep the whole row in memory.
    return states[:, :, here].clone()
