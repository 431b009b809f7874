"""The training process, but the gradient of the second rank is NaN in the third window; started by tests of several ranks."""

import math
from typing import Any

import torch

from services.trainer.training.__main__ import leave, main


def poison() -> None:
    """From now on; the engine may only be imported after the process has set itself up."""
    from services.trainer.training.engine import Engine

    accumulate, windows = Engine.accumulate, iter(range(1, 1_000))

    def poisoned(engine: Any, micro_batches: Any, units: Any) -> Any:
        if next(windows) != 3 or engine.rank != 1:
            return accumulate(engine, micro_batches, units)
        trained = [each for each in engine._engine.module.parameters() if each.requires_grad]
        handle = trained[0].register_hook(lambda gradient: torch.full_like(gradient, math.nan))
        try:
            return accumulate(engine, micro_batches, units)
        finally:
            handle.remove()

    Engine.accumulate = poisoned  # type: ignore[method-assign]


if __name__ == "__main__":
    poison()
    leave(main())
