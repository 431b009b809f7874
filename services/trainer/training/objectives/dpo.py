"""Direct preference optimisation: the objective `dpo`. Formulas as in the paper (Rafailov et al., 2305.18290).

`label_smoothing` is the conservative variant (a label is wrong with that probability); `reference_free` compares with a reference
that finds all answers equally likely; `sft_loss_weight` adds the cross-entropy of the preferred answers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from services.trainer.training.config import Hyperparameters, Preference
from services.trainer.training.data import Dataset, Example
from services.trainer.training.objectives.pairs import (
    REWARD_METRICS,
    PairBatch,
    collate_pairs,
    policy_log_probs,
    reference_log_probs,
    reward_sums,
)
from services.trainer.training.objectives.plain import PlainObjective
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.sequences import Sequences


class DirectPreference(PlainObjective):
    """One part by pairs, and with `sft_loss_weight` one by target tokens of the preferred answers."""

    metrics = REWARD_METRICS

    def __init__(self, training: Dataset, numbers: Hyperparameters, preference: Preference) -> None:
        self._sequences = Sequences.sharing(training, numbers)
        self._beta = preference.beta
        self._smoothing = preference.label_smoothing or 0.0
        self._sft_weight = preference.sft_loss_weight or 0.0
        self.has_reference = not preference.reference_free
        self.reference_is_stored = self.has_reference and numbers.lora is None

    def units(self, example: Example) -> tuple[int, ...]:
        """One pair; its preferred target tokens when they are learned, too."""
        return (1, len(example.texts[0].targets)) if self._sft_weight else (1,)

    def collate(self, examples: Sequence[Example], device: torch.device) -> PairBatch:
        """Preferred answers first."""
        return collate_pairs(self._sequences, examples, device, stored=self.reference_is_stored)

    def loss(self, policy: Policy, batch: PairBatch, baseline: Tensor | None) -> Tensor:
        """[preference loss, cross-entropy if it counts, rewards]."""
        # The reference first: its activations are gone when those of the policy are kept for the backward pass.
        reference = reference_log_probs(policy, batch) if self.has_reference else 0.0
        likelihood = policy_log_probs(policy, batch)
        chosen, rejected = self._beta * (likelihood - reference)
        margin = chosen - rejected
        preferred = -(1 - self._smoothing) * logsigmoid(margin) - self._smoothing * logsigmoid(-margin)
        parts = [preferred.sum()]
        if self._sft_weight:
            parts.append(-self._sft_weight * likelihood[0].sum())
        return torch.stack([*parts, *reward_sums(chosen, rejected)])

    def reference(self, policy: Policy, batch: PairBatch) -> Tensor:
        """[B, 2]."""
        return policy_log_probs(policy, batch).T
