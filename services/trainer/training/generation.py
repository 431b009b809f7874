"""The most likely continuation of some tokens by a model in training; used by the engine."""

from collections.abc import Sequence
from typing import Any

import torch


def continuation(model: Any, token_ids: Sequence[int], most: int, stops: frozenset[int], device: torch.device) -> list[int]:
    """At most `most` token ids, greedy, up to and including one of `stops`. `model` is a causal language model of transformers,
    with or without an adapter, in evaluation mode.

    A loop of its own: `generate` of transformers brings the sampling settings and warnings of the base model's files along.
    """
    found: list[int] = []
    past = None
    ids = torch.tensor([list(token_ids)], device=device)
    while len(found) < most and not (found and found[-1] in stops):
        output = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        past = output.past_key_values
        ids = output.logits[:, -1:].argmax(-1)
        found.append(int(ids))
    return found
