"""Kahneman-Tversky optimisation: the objective `kto` (Ethayarajh et al., 2402.01306) on preference rows, each side an example.

Rewards are compared with a baseline: how far the model has moved on answers that belong to other prompts. It is taken over the
whole window before its losses, so that it does not depend on how the window is cut. An answer of the row before serves as the
other prompt's; so the pairs are the same in every epoch and on every rank.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from services.common.errors import ServiceError
from services.trainer.training.config import Hyperparameters, Preference
from services.trainer.training.data import Dataset, Example, Tokens
from services.trainer.training.objectives.pairs import (
    REWARD_METRICS,
    PairBatch,
    collate_pairs,
    policy_log_probs,
    reference_log_probs,
    reward_sums,
)
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.sequences import Sequences

_OWN = 2
"""Texts a row has itself; two more follow: both prompts with another row's answers."""


class KahnemanTversky:
    """One part, by sides: two for each row."""

    metrics = (*REWARD_METRICS, "kl")
    has_baseline = True
    has_reference = True

    def __init__(self, training: Dataset, numbers: Hyperparameters, preference: Preference) -> None:
        self._sequences = Sequences.sharing(training, numbers)
        self._limit = numbers.max_seq_length
        self.reference_is_stored = numbers.lora is None
        self._beta = preference.beta
        self._weights = (_or_one(preference.desirable_weight), _or_one(preference.undesirable_weight))

    def arrange(self, data: Dataset) -> Dataset:
        """Every example gets both its prompts with the answers of the example before."""
        if len(data.examples) < 2:
            raise ServiceError("DATASET_UNUSABLE", "kto compares the answers of different rows and needs at least 2 of them")
        before = (data.examples[-1], *data.examples[:-1])
        examples = (self._with_others(example, other) for example, other in zip(data.examples, before, strict=True))
        return replace(data, examples=tuple(examples))

    def units(self, example: Example) -> tuple[int, ...]:
        """Two sides."""
        return (2,)

    def collate(self, examples: Sequence[Example], device: torch.device) -> tuple[PairBatch, PairBatch]:
        """The sides, and the same prompts with other answers."""
        own = [replace(example, texts=example.texts[:_OWN], reference=example.reference[:_OWN]) for example in examples]
        other = [replace(example, texts=example.texts[_OWN:], reference=example.reference[_OWN:]) for example in examples]
        return self._pairs(own, device), self._pairs(other, device)

    def baseline(self, policy: Policy, batch: tuple[PairBatch, PairBatch]) -> Tensor:
        """[movement on other answers, their number]; called without gradients."""
        _, other = batch
        moved = policy_log_probs(policy, other) - reference_log_probs(policy, other)
        return torch.stack([moved.sum(), moved.new_tensor(float(moved.numel()))])

    def loss(self, policy: Policy, batch: tuple[PairBatch, PairBatch], baseline: Tensor | None) -> Tensor:
        """[loss of both sides, rewards by pairs doubled since units are sides, kl]."""
        own, _ = batch
        assert baseline is not None
        kl = (baseline[0] / baseline[1]).clamp(min=0)
        reference = reference_log_probs(policy, own)
        chosen, rejected = policy_log_probs(policy, own) - reference
        desirable, undesirable = self._weights
        better = desirable * (1 - torch.sigmoid(self._beta * (chosen - kl)))
        worse = undesirable * (1 - torch.sigmoid(self._beta * (kl - rejected)))
        sums = [2 * value for value in reward_sums(self._beta * chosen, self._beta * rejected)]
        return torch.stack([better.sum() + worse.sum(), *sums, 2 * kl * chosen.numel()])

    def reference(self, policy: Policy, batch: tuple[PairBatch, PairBatch]) -> Tensor:
        """[B, 4]."""
        return torch.cat([policy_log_probs(policy, pairs) for pairs in batch]).T

    def _pairs(self, examples: Sequence[Example], device: torch.device) -> PairBatch:
        return collate_pairs(self._sequences, examples, device, stored=self.reference_is_stored)

    def _with_others(self, example: Example, other: Example) -> Example:
        mixed = (_mixed(own, foreign, self._limit) for own, foreign in zip(example.texts, other.texts, strict=True))
        return replace(example, texts=(*example.texts, *mixed))


def _mixed(own: Tokens, foreign: Tokens, limit: int) -> Tokens:
    """The prompt of one text with the answer of another, as far as `limit` tokens go."""
    start, shift = foreign.targets[0], own.targets[0] - foreign.targets[0]
    ids = (own.ids[: own.targets[0]] + foreign.ids[start:])[:limit]
    return Tokens(ids, array("i", (position + shift for position in foreign.targets if position + shift < len(ids))))


def _or_one(weight: float | None) -> float:
    return 1.0 if weight is None else weight
