"""The arithmetic of optimizer steps, in one place; used to resolve hyperparameters and to plan."""

import math


def steps_per_epoch(example_count: int, global_batch_size: int) -> int:
    """Optimizer steps of one pass over the data; the last may be smaller. At least 1."""
    return max(1, math.ceil(example_count / global_batch_size))


def total_steps(epochs: float, example_count: int, global_batch_size: int) -> int:
    """Optimizer steps of `epochs` passes, fractions rounded up. At least 1."""
    steps = epochs * steps_per_epoch(example_count, global_batch_size)
    # 0.1 * 30 is 3.0000000000000004 in floating point and still means 3 steps.
    return max(1, math.ceil(round(steps, 9)))
