"""What a training method is to the rest of the process: rows to tensors, tensors to a loss; every method is one of these."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, device

from services.trainer.training.data import Dataset, Example
from services.trainer.training.objectives.policy import Policy


class Objective(Protocol):
    """A training method.

    A loss is the sum of one or more parts. Each part is a sum over units (target tokens, pairs) divided by the units of the whole
    window, so that any cut into micro-batches and ranks adds up to the same number.
    """

    reference_is_stored: bool
    """Examples carry what `reference` said of them before training; otherwise the losses switch the adapter off."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured along the way; each a sum to be divided by the units of the first part."""

    @property
    def has_baseline(self) -> bool:
        """`baseline` must be called before the window's losses."""

    @property
    def has_reference(self) -> bool:
        """Losses compare with the model as it was before training; see `reference`."""

    def arrange(self, data: Dataset) -> Dataset:
        """The data as this objective trains on it; row for row. Raises ServiceError DATASET_UNUSABLE."""

    def units(self, example: Example) -> tuple[int, ...]:
        """What the example counts in each part of the loss."""

    def collate(self, examples: Sequence[Example], device: device) -> Any:
        """Tensors of one micro-batch; `examples` may be empty."""

    def loss(self, policy: Policy, batch: Any, baseline: Tensor | None) -> Tensor:
        """[parts, then metrics], all sums over the micro-batch. The parts are connected to every trained weight, also when the
        micro-batch is empty. `baseline` is the sum of `baseline` over the window and all ranks."""

    def baseline(self, policy: Policy, batch: Any) -> Tensor:
        """What the losses of a window are measured against, as a sum over the micro-batch; only with `has_baseline`."""

    def reference(self, policy: Policy, batch: Any) -> Tensor:
        """[B, texts]. Log-probabilities of the texts of each example by the model as it is; only with `has_reference`.

        Called before training with `reference_is_stored`.
        """


@runtime_checkable
class Classifying(Protocol):
    """A training method that takes every row for one of several labels."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All there are, by class."""

    def answers(self, policy: Policy, batch: Any) -> Tensor:
        """[B]. The class that each row of the micro-batch is taken for."""
