"""How many steps a task takes and what deserves a second look; used to resolve hyperparameters and by PlanTask."""

import dataclasses
import math

from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.steps import steps_per_epoch


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a task would do."""

    effective: Hyperparameters
    total_steps: int
    example_count: int
    warnings: tuple[str, ...]


def make_plan(effective: Hyperparameters, example_count: int) -> Plan:
    """The plan of resolved hyperparameters over `example_count` examples."""
    total = effective.max_steps or 1
    return Plan(effective, total, example_count, tuple(_warnings(effective, total, example_count)))


def _warnings(effective: Hyperparameters, total: int, examples: int) -> list[str]:
    batch, warmup = effective.global_batch_size or 1, effective.warmup_steps or 0
    passes = total / steps_per_epoch(examples, batch)
    found = (
        (examples < 10, f"The dataset has {examples} examples; fine-tuning usually needs 10 or more."),
        (batch > examples, f"global_batch_size {batch} is larger than the dataset ({examples}): every step sees all of it."),
        (passes > 10, f"{passes:.4g} passes over the data: expect overfitting; watch the validation loss."),
        ((effective.learning_rate or 0) > 1e-3, f"learning_rate {effective.learning_rate:g} is high for fine-tuning."),
        (warmup >= total > 1, f"warmup_steps {warmup} covers all {total} steps: the peak learning rate is never held."),
        ((effective.eval_steps or 0) > total, f"eval_steps {effective.eval_steps} is more than the {total} steps planned."),
        (
            (effective.logging_steps or 0) > total,
            f"logging_steps {effective.logging_steps} is more than the {total} steps planned.",
        ),
        (_is_uneven(effective, examples, batch), "The last step of each pass has fewer examples than the others."),
    )
    return [text for applies, text in found if applies]


def _is_uneven(effective: Hyperparameters, examples: int, batch: int) -> bool:
    # Only worth a word when the rest is a small part of a batch: its gradient is then much noisier.
    rest = math.fmod(examples, batch)
    return examples > batch and 0 < rest < batch / 4 and (effective.max_steps or 0) >= steps_per_epoch(examples, batch)
