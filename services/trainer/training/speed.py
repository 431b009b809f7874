"""`python -m services.trainer.training.speed`: how fast this machine multiplies large matrices of fp32; prints JSON.

Started by the trainer's face while nothing trains; plans of tasks judge by the number until runs have been seen.
"""

import json
import os
import time
from collections.abc import Callable

SECONDS = 2.0
# Large enough for full speed; small enough on a CPU that some of the products run undisturbed beside busy neighbours.
SIZES = {"cpu": 512, "cuda": 4096}


def main() -> int:
    """Measure at the lowest priority and report; returns the exit code."""
    # Before torch, whose threads inherit it: whatever else runs on the machine goes first.
    os.nice(19)
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = SIZES[device]
    left, right = (torch.rand(size, size, device=device) for _ in range(2))

    def multiply() -> None:
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    seconds = fastest(multiply, SECONDS, time.perf_counter)
    print(json.dumps({"flops_per_second": 2 * size**3 / seconds}))  # noqa: T201
    return 0


def fastest(action: Callable[[], object], budget: float, clock: Callable[[], float]) -> float:
    """Seconds the fastest call took within about `budget` seconds: the least disturbed one. The first call is not counted."""
    action()
    end, best = clock() + budget, float("inf")
    while best == float("inf") or clock() < end:
        start = clock()
        action()
        best = min(best, clock() - start)
    return best


if __name__ == "__main__":
    raise SystemExit(main())
