"""Sequences behind each other in one row, through a decoder of transformers; used where its attention takes them without loss.

Positions begin anew with every sequence, and that is how transformers tells them apart: its kernels for sequences of variable
length then compute no padding and nothing across sequences. Other kernels would get a dense mask of all tokens by all tokens.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

_KERNELS = ("flash_attention", "kernels-community/flash-attn")


def can_pack(config: Any) -> bool:
    """Whether the attention of a model of this configuration computes nothing across packed sequences."""
    return str(getattr(config, "_attn_implementation", "")).startswith(_KERNELS)


def packed_states(decoder: Any, token_ids: Tensor, lengths: Sequence[int], rows: Tensor, columns: Tensor) -> Tensor:
    """[M, hidden]. Final states at `rows` and `columns` [M] of `token_ids` [B, T], whose rows have `lengths` real tokens."""
    starts = torch.tensor([0, *accumulate(lengths)][:-1], device=token_ids.device)
    ids = torch.cat([token_ids[row, :length] for row, length in enumerate(lengths)]).unsqueeze(0)
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(token_ids.device)
    states: Tensor = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
    return states[0, starts[rows] + columns]
