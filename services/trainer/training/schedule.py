"""How many optimizer steps there are and how large each one's learning rate is; pure functions used by the loop."""

import math

from services.trainer.training.config import Hyperparameters


def steps_per_epoch(example_count: int, global_batch_size: int) -> int:
    """Optimizer steps in one pass; the last one may be smaller."""
    return math.ceil(example_count / global_batch_size)


def total_steps(numbers: Hyperparameters, example_count: int) -> int:
    """`max_steps`, or as many as `num_train_epochs` needs, at least 1."""
    if numbers.max_steps is not None:
        return numbers.max_steps
    steps = numbers.num_train_epochs * steps_per_epoch(example_count, numbers.global_batch_size)
    # 3 x 0.1 is a little more than 0.3 in binary; such dust must not become one more step.
    return max(1, math.ceil(steps - 1e-9))


def warmup_steps(numbers: Hyperparameters, total: int) -> int:
    """Steps in which the learning rate rises."""
    return numbers.warmup_steps if numbers.warmup_steps is not None else math.ceil(numbers.warmup_ratio * total)


def learning_rate(step: int, numbers: Hyperparameters, total: int) -> float:
    """Rate of optimizer step `step` (1-based) of `total`: up a straight line, then by `lr_scheduler_type` towards 0.

    The first step already learns (rate / warm-up steps, not 0), and so does the last.
    """
    warmup = warmup_steps(numbers, total)
    if step <= warmup:
        return numbers.learning_rate * step / warmup
    # Counted so that the step after the warm-up has the full rate and 0 is reached one step after the end.
    progress = min(1.0, (step - 1 - warmup) / max(1, total - warmup))
    return numbers.learning_rate * _decay(numbers.lr_scheduler_type, progress)


def _decay(kind: str, progress: float) -> float:
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - progress
    return 0.5 * (1.0 + math.cos(math.pi * progress))
