"""Supervised fine-tuning: cross-entropy on target tokens only, computing nothing that does not change it.

Two savings, both exact. Logits exist only where a target follows. Tokens that every example begins with (a system message, most
often) run through the model once per micro-batch; the rest of each example attends to their keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from services.trainer.training.data import Dataset, Example

# A second pass through the model costs about as much as this many tokens.
_WORTH_SHARING = 8


@dataclass(frozen=True, slots=True)
class SftBatch:
    """One micro-batch of B examples padded on the right to T tokens, with N target tokens in all."""

    prefix: Tensor
    """[1, P]. Tokens that all B examples begin with; P may be 0."""
    token_ids: Tensor
    """[B, T]. Tokens after the prefix. The padding may hold anything: attention is causal, so no real token sees it."""
    rows: Tensor
    """[N]. The example each target belongs to."""
    predictors: Tensor
    """[N]. Column of the token before each target: its hidden state predicts the target."""
    targets: Tensor
    """[N]. The ids to predict."""


class SupervisedFineTuning:
    """The objective called `sft`."""

    def __init__(self, training: Dataset) -> None:
        prefix = training.common_prefix
        self._prefix = prefix if len(prefix) >= _WORTH_SHARING else ()

    def collate(self, examples: Sequence[Example], device: torch.device) -> SftBatch:
        """Without examples: one row of padding without targets, so that the rank still runs the model forward and backward.

        DeepSpeed reduces gradients in the order backward produces them. A rank that skipped the model, or the pass over the
        prefix, would add up other weights than the rest; so the prefix is the same for all training data.
        """
        shared = len(self._prefix) if all(self._begins_with_prefix(example) for example in examples) else 0
        rests = [example.token_ids[shared:] for example in examples] or [(0, 0)]
        token_ids = torch.zeros((len(rests), max(map(len, rests))), dtype=torch.long)
        for row, rest in enumerate(rests):
            token_ids[row, : len(rest)] = torch.tensor(rest)
        places = [(row, position - shared) for row, example in enumerate(examples) for position in example.targets]
        rows, columns = torch.tensor(places, dtype=torch.long).reshape(-1, 2).unbind(1)
        prefix = torch.tensor([self._prefix[:shared]], dtype=torch.long)
        tensors = (prefix, token_ids, rows, columns - 1, token_ids[rows, columns])
        return SftBatch(*(tensor.to(device, non_blocking=True) for tensor in tensors))

    def loss(self, model: Any, batch: SftBatch) -> Tensor:
        """Sum of the negative log-likelihoods of the batch's targets; `model` is a causal language model of transformers."""
        hidden = _hidden_states(model.get_decoder(), batch)
        logits = model.get_output_embeddings()(hidden[batch.rows, batch.predictors])
        return functional.cross_entropy(logits.float(), batch.targets, reduction="sum")

    def _begins_with_prefix(self, example: Example) -> bool:
        """True for all training data. Validation data may be of another kind and then runs without sharing."""
        shared = len(self._prefix)
        return example.token_ids[:shared] == self._prefix and example.targets[0] > shared


def _hidden_states(decoder: Any, batch: SftBatch) -> Any:
    """[B, T, hidden] of the tokens after the prefix."""
    if not batch.prefix.numel():
        return decoder(input_ids=batch.token_ids, use_cache=False).last_hidden_state
    # A cache is for generating as a rule; here gradients flow back through it, added up over the examples.
    cache = decoder(input_ids=batch.prefix, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(batch.token_ids))
    return decoder(input_ids=batch.token_ids, past_key_values=cache, use_cache=True).last_hidden_state
