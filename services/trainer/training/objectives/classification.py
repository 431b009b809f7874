"""One of a fixed set of labels for a conversation: the objective `classification`, a linear head over the last token."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from services.common.errors import ServiceError
from services.trainer.training.data import Dataset, Example
from services.trainer.training.objectives.plain import PlainObjective
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.sequences import SequenceBatch, Sequences, states_at


@dataclass(frozen=True, slots=True)
class LabelBatch:
    """B conversations and their classes."""

    sequences: SequenceBatch
    last: Tensor
    """[B]. Column of the last token of each."""
    classes: Tensor
    """[B]."""


class Classification(PlainObjective):
    """One part, by conversations. The classes are those of the training data, sorted."""

    metrics = ("accuracy",)

    def __init__(self, training: Dataset) -> None:
        self._sequences = Sequences(array("i"))
        self.labels = training.labels
        self._classes = {label: index for index, label in enumerate(training.labels)}

    def arrange(self, data: Dataset) -> Dataset:
        """As it is; raises when a label is not among those of the training data, or when there is nothing to tell apart."""
        if len(self._classes) < 2:
            raise ServiceError("DATASET_UNUSABLE", "all rows have the same label; classification needs at least 2 labels")
        if unknown := [label for label in data.labels if label not in self._classes]:
            raise ServiceError(
                "DATASET_UNUSABLE", f"the validation data has a label the training data has not: {unknown[0][:80]!r}"
            )
        return data

    def units(self, example: Example) -> tuple[int, ...]:
        """One conversation."""
        return (1,)

    def collate(self, examples: Sequence[Example], device: torch.device) -> LabelBatch:
        """No token is a target."""
        texts = [replace(example.texts[0], targets=example.texts[0].targets[:0]) for example in examples]
        last = torch.tensor([len(text.ids) - 1 for text in texts], dtype=torch.long)
        classes = torch.tensor([self._classes[example.label] for example in examples], dtype=torch.long)
        return LabelBatch(self._sequences.collate(texts, device), last.to(device), classes.to(device))

    def loss(self, policy: Policy, batch: LabelBatch, baseline: Tensor | None) -> Tensor:
        """[cross-entropy over the classes, right answers]."""
        logits = self._logits(policy, batch)
        right = (logits.detach().argmax(-1) == batch.classes).sum()
        return torch.stack([functional.cross_entropy(logits, batch.classes, reduction="sum"), right.float()])

    def answers(self, policy: Policy, batch: LabelBatch) -> Tensor:
        """See Classifying."""
        return self._logits(policy, batch).argmax(-1)

    def _logits(self, policy: Policy, batch: LabelBatch) -> Tensor:
        """[B, classes]."""
        rows = torch.arange(len(batch.last), device=batch.last.device)
        logits: Tensor = policy.network.score(states_at(policy, batch.sequences, rows, batch.last).float())
        return logits
