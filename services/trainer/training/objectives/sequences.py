"""Token sequences through a causal language model, computing only what target tokens need; used by every objective on text.

Savings, all exact. Logits exist only where a target follows. Tokens that every sequence begins with (a system message, most
often) run through the model once per micro-batch; the rest of each sequence attends to their keys and values. Where the model
fits the fast path, no padding is computed.
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
from services.trainer.training.fast.head import target_scores as fast_target_scores
from services.trainer.training.fast.layout import lay_out
from services.trainer.training.objectives.packed import packed_states
from services.trainer.training.objectives.policy import Policy

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
    lengths: tuple[int, ...]
    """Of each of the rows, without padding."""
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
        self.prefix = prefix if len(prefix) >= _WORTH_SHARING else prefix[:0]

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
        shared = len(self.prefix) if all(self._begins_with_prefix(text) for text in texts) else 0
        rests = [text.ids[shared:] for text in texts] or [array("i", (0, 0))]
        token_ids = torch.zeros((len(rests), max(map(len, rests))), dtype=torch.long)
        for row, rest in enumerate(rests):
            token_ids[row, : len(rest)] = torch.frombuffer(rest, dtype=torch.int32)
        places = [(row, position - shared) for row, text in enumerate(texts) for position in text.targets]
        rows, columns = torch.tensor(places, dtype=torch.long).reshape(-1, 2).unbind(1)
        prefix = torch.tensor([self.prefix[:shared].tolist()], dtype=torch.long)
        lengths = tuple(map(len, rests))
        first, second, *targets = (
            tensor.to(device, non_blocking=True) for tensor in (prefix, token_ids, rows, columns - 1, token_ids[rows, columns])
        )
        return SequenceBatch(len(texts), first, second, lengths, *targets)

    def _begins_with_prefix(self, text: Tokens) -> bool:
        """True for all training data. Validation data may be of another kind and then runs without sharing."""
        shared = len(self.prefix)
        return text.ids[:shared] == self.prefix and (text.targets[0] if text.targets else len(text.ids)) > shared


def target_scores(policy: Policy, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """(log-probability [N] in nats, whether it is the most likely token [N]) of each target, by a causal language model."""
    states = states_at(policy, batch, batch.rows, batch.predictors)
    head = policy.network.get_output_embeddings()
    if policy.fast_decoder:
        return fast_target_scores(states, head.weight, batch.targets)
    logits = head(states).float()
    return -functional.cross_entropy(logits, batch.targets, reduction="none"), logits.detach().argmax(-1) == batch.targets


def sequence_log_probs(policy: Policy, batch: SequenceBatch) -> Tensor:
    """[B]. Log-probability of all targets of each sequence, nats."""
    return batch.per_sequence(target_scores(policy, batch)[0])


def states_at(policy: Policy, batch: SequenceBatch, rows: Tensor, columns: Tensor) -> Tensor:
    """[M, hidden]. Final states of the tokens at `rows` and `columns` [M] of the batch; a column counts after the prefix."""
    if policy.fast_decoder:
        layout = lay_out(batch.prefix, batch.token_ids, batch.lengths, rows, columns)
        return policy.fast_decoder.states(layout, has_adapter=policy.has_adapter)
    if policy.packs and not batch.prefix.numel():
        return packed_states(policy.network.get_decoder(), batch.token_ids, batch.lengths, rows, columns)
    states: Tensor = _output(policy.network.get_decoder(), batch).last_hidden_state
    return states[rows, columns]


def _output(decoder: Any, batch: SequenceBatch) -> Any:
    if not batch.prefix.numel():
        return decoder(input_ids=batch.token_ids, use_cache=False)
    # A cache is for generating as a rule; here gradients flow back through it, added up over the sequences.
    cache = decoder(input_ids=batch.prefix, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(batch.token_ids))
    return decoder(input_ids=batch.token_ids, past_key_values=cache, use_cache=True)
