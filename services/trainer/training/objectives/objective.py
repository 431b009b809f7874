"""What a training method is to the rest of the process: rows to tensors, tensors to a loss; every method is one of these."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, device

from services.trainer.training.data import Example


class Objective(Protocol):
    """A training method. Losses are sums, so that any cut into micro-batches and ranks adds up to the same number."""

    def collate(self, examples: Sequence[Example], device: device) -> Any:
        """Tensors of one micro-batch; `examples` may be empty."""

    def loss(self, model: Any, batch: Any) -> Tensor:
        """Sum over the target tokens in nats: a scalar connected to every trained weight, also when there are no targets."""
