"""Cross-entropy on target tokens; the objective `sft` (targets = the assistant's tokens) and `cpt` (targets = all tokens)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.trainer.training.config import Hyperparameters
from services.trainer.training.data import Dataset, Example
from services.trainer.training.objectives.plain import PlainObjective
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.sequences import SequenceBatch, Sequences, target_scores


class CrossEntropy(PlainObjective):
    """One part, by target tokens: the rows' masks say which tokens those are."""

    metrics = ("token_accuracy",)

    def __init__(self, training: Dataset, numbers: Hyperparameters) -> None:
        self._sequences = Sequences.sharing(training, numbers)

    def units(self, example: Example) -> tuple[int, ...]:
        """Its target tokens."""
        return (example.target_count,)

    def collate(self, examples: Sequence[Example], device: torch.device) -> SequenceBatch:
        """One sequence per example."""
        return self._sequences.collate([example.texts[0] for example in examples], device)

    def loss(self, policy: Policy, batch: SequenceBatch, baseline: Tensor | None) -> Tensor:
        """[negative log-likelihood of the targets, targets that are the most likely token]."""
        likelihood, right = target_scores(policy, batch)
        return torch.stack([-likelihood.sum(), right.sum().float()])
