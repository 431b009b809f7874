"""How much the loss is enlarged while its gradient is taken in fp16, which has no number between 0 and 6e-8; used by `Engine`.

As torch.amp.GradScaler does it, with two differences: gradients have their own size again before anybody sees them, so nothing
else knows of it, and an overflow is no lost batch: its gradient is taken again. Scales are powers of two, so they round nothing.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_FIRST = 2.0**16
_GROWS_AFTER = 2_000
"""Windows without an overflow, after which the scale is doubled again."""


class LossScale:
    """For the gradients of `trained`, from now on; alike on all ranks, since all see the same overflows."""

    def __init__(self, trained: Iterable[nn.Parameter]) -> None:
        self.value = _FIRST
        self._calm = 0
        for parameter in trained:
            parameter.register_hook(lambda gradient: gradient / self.value)  # type: ignore[no-untyped-call]

    def has_room(self) -> bool:
        """Whether an overflow may be the scale's doing."""
        return self.value > 1

    def shrink(self) -> None:
        """After an overflow."""
        self.value, self._calm = self.value / 2, 0

    def note_step(self) -> None:
        """A window went well."""
        self._calm += 1
        if self._calm >= _GROWS_AFTER:
            self.value, self._calm = min(_FIRST, self.value * 2), 0

    def state(self) -> Tensor:
        """[scale, windows since the last overflow], float64."""
        return torch.tensor([self.value, self._calm], dtype=torch.float64)

    def restore(self, state: Tensor) -> None:
        """As it was when `state` was taken."""
        self.value, self._calm = float(state[0]), int(state[1])
