"""Token sequences through a causal language model, computing only what target tokens need; used by every objective on text.

Two savings, both exact. Logits exist only where a target follows. Tokens that every sequence begins with (a system message, most
often) run through the model once per micro-batch; the rest of each sequence attends to their keys and values.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional

from services.trainer.training.config import Hyperparameters
from services.trainer.training.data import Dataset, Integers, Tokens

# A second pass through the model costs about as much as this many tokens.
_WORTH_SHARING = 8


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """B sequences padded on the right to T tokens, with N target tokens in all."""

    count: int
    """B; 0 = one row of padding stands in."""
    prefix: Tensor
    """[1, P]. Tokens that all B sequences begin with; P may be 0."""
    token_ids: Tensor
    """[B, T]. Tokens after the prefix. The padding may hold anything: attention is causal, so no real token sees it."""
    rows: Tensor
    """[N]. The sequence each target belongs to."""
    predictors: Tensor
    """[N]. Column of the token before each target: its hidden state predicts the target."""
    targets: Tensor
    """[N]. The ids to predict."""

    def per_sequence(self, values: Tensor) -> Tensor:
        """[B]. Sums of one value per target, by sequence."""
        return values.new_zeros(self.count).index_add(0, self.rows, values)


class Sequences:
    """Makes batches."""

    def __init__(self, prefix: Integers) -> None:
        """`prefix` = tokens all training sequences begin with; empty = nothing is shared."""
        self._prefix = prefix if len(prefix) >= _WORTH_SHARING else prefix[:0]

    @classmethod
    def sharing(cls, training: Dataset, numbers: Hyperparameters) -> Self:
        """With the common prefix of the training data."""
        # ZeRO 3 collects weights in step with the other ranks, so all must run the same modules equally often; validation data
        # may begin otherwise on one of them.
        return cls(array("i") if numbers.zero_stage == 3 else training.common_prefix)

    def collate(self, texts: Sequence[Tokens], device: torch.device) -> SequenceBatch:
        """Without texts: one row of padding without targets, so that the rank still runs the model forward and backward.

        DeepSpeed reduces gradients in the order backward produces them. A rank that skipped the model, or the pass over the
        prefix, would add up other weights than the rest; so the prefix is the same for all training data.
        """
        shared = len(self._prefix) if all(self._begins_with_prefix(text) for text in texts) else 0
        rests = [text.ids[shared:] for text in texts] or [array("i", (0, 0))]
        token_ids = torch.zeros((len(rests), max(map(len, rests))), dtype=torch.long)
        for row, rest in enumerate(rests):
            token_ids[row, : len(rest)] = torch.frombuffer(rest, dtype=torch.int32)
        places = [(row, position - shared) for row, text in enumerate(texts) for position in text.targets]
        rows, columns = torch.tensor(places, dtype=torch.long).reshape(-1, 2).unbind(1)
        prefix = torch.tensor([self._prefix[:shared].tolist()], dtype=torch.long)
        tensors = (prefix, token_ids, rows, columns - 1, token_ids[rows, columns])
        return SequenceBatch(len(texts), *(tensor.to(device, non_blocking=True) for tensor in tensors))

    def _begins_with_prefix(self, text: Tokens) -> bool:
        """True for all training data. Validation data may be of another kind and then runs without sharing."""
        shared = len(self._prefix)
        return text.ids[:shared] == self._prefix and (text.targets[0] if text.targets else len(text.ids)) > shared


def target_logits(network: Any, batch: SequenceBatch) -> Tensor:
    """[N, vocabulary] in fp32. Logits that predict the targets; `network` is a causal language model of transformers."""
    hidden = hidden_states(network.get_decoder(), batch)
    logits: Tensor = network.get_output_embeddings()(hidden[batch.rows, batch.predictors])
    return logits.float()


def log_probs(logits: Tensor, batch: SequenceBatch) -> Tensor:
    """[N]. Log-probability of each target, nats."""
    return -functional.cross_entropy(logits, batch.targets, reduction="none")


def sequence_log_probs(network: Any, batch: SequenceBatch) -> Tensor:
    """[B]. Log-probability of all targets of each sequence, nats."""
    return batch.per_sequence(log_probs(target_logits(network, batch), batch))


def hidden_states(decoder: Any, batch: SequenceBatch) -> Any:
    """[B, T, hidden] of the tokens after the prefix."""
    return _output(decoder, batch).last_hidden_state


def _output(decoder: Any, batch: SequenceBatch) -> Any:
    if not batch.prefix.numel():
        return decoder(input_ids=batch.token_ids, use_cache=False)
    # A cache is for generating as a rule; here gradients flow back through it, added up over the sequences.
    cache = decoder(input_ids=batch.prefix, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(batch.token_ids))
    return decoder(input_ids=batch.token_ids, past_key_values=cache, use_cache=True)
