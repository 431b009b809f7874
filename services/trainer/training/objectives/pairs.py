"""Pairs of a better and a worse answer as one batch, and what is measured on them; used by the preference objectives."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from services.trainer.training.data import Example
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.sequences import SequenceBatch, Sequences, sequence_log_probs

_PAIR = 2
REWARD_METRICS = ("rewards_chosen", "rewards_rejected", "rewards_margin", "rewards_accuracy")


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B pairs: 2 x B sequences, all preferred answers first."""

    sequences: SequenceBatch
    stored: Tensor | None
    """[2, B]. Log-probabilities computed before training; None = to be computed with the adapter switched off."""

    def by_text(self, values: Tensor) -> Tensor:
        """[2, B] of one value per sequence."""
        return values.reshape(_PAIR, self.sequences.count // _PAIR)


def collate_pairs(sequences: Sequences, examples: Sequence[Example], device: torch.device, *, stored: bool) -> PairBatch:
    """`examples` may be empty; `stored` = they carry the log-probabilities of the reference."""
    texts = [example.texts[index] for index in range(_PAIR) for example in examples]
    batch = sequences.collate(texts, device)
    if not stored:
        return PairBatch(batch, None)
    values = torch.tensor([example.reference for example in examples], device=device).reshape(-1, _PAIR)
    return PairBatch(batch, values.T)


def policy_log_probs(policy: Policy, batch: PairBatch) -> Tensor:
    """[2, B]. By the model as it is."""
    return batch.by_text(sequence_log_probs(policy, batch.sequences))


def reference_log_probs(policy: Policy, batch: PairBatch) -> Tensor:
    """[2, B]. By the model as it was before training; no gradient."""
    if batch.stored is not None:
        return batch.stored
    with policy.as_before_training():
        return policy_log_probs(policy, batch)


def reward_sums(chosen: Tensor, rejected: Tensor) -> list[Tensor]:
    """Sums for REWARD_METRICS of the rewards [B] of both sides."""
    chosen, rejected = chosen.detach(), rejected.detach()
    return [chosen.sum(), rejected.sum(), (chosen - rejected).sum(), (chosen > rejected).float().sum()]
