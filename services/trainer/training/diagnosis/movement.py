"""How far weights have moved; used by the watch to feed the detector of learning rates that do nothing."""

from torch import Tensor


class Movement:
    """Compares samples of the same weights at different times; `first` is from before the first step."""

    def __init__(self, first: Tensor) -> None:
        self._last = first

    def since(self, now: Tensor) -> float | None:
        """Distance from the sample before, relative to the size of the weights; None without weights."""
        last, self._last = self._last, now
        if not now.numel():
            return None
        # Weights that begin at zero have no size to compare with until they have moved.
        return float((now - last).norm() / max(float(now.norm()), 1e-12))
