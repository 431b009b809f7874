"""What most objectives have in common: the data as it is, no baseline, no reference; a base class for exactly that."""

from typing import Any

from torch import Tensor

from services.trainer.training.data import Dataset
from services.trainer.training.objectives.policy import Policy


class PlainObjective:
    """The quiet half of Objective."""

    metrics: tuple[str, ...] = ()
    has_baseline = False
    has_reference = False
    reference_is_stored = False

    def arrange(self, data: Dataset) -> Dataset:
        """As it is."""
        return data

    def baseline(self, policy: Policy, batch: Any) -> Tensor:
        """Never asked for."""
        raise NotImplementedError

    def reference(self, policy: Policy, batch: Any) -> Tensor:
        """Never asked for."""
        raise NotImplementedError
