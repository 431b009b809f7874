"""What deserves a second look before a task starts, one sentence each; used by PlanTask. Nothing here blocks."""

import math

from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.inputs import Tokens
from services.task_manager.domain.steps import steps_per_epoch

Advice = tuple[bool, str]
"""Whether it applies, and what it says."""


def about_numbers(effective: Hyperparameters, examples: int) -> list[str]:
    """About hyperparameters over `examples` rows a pass."""
    total, batch, warmup = effective.max_steps or 1, effective.global_batch_size or 1, effective.warmup_steps or 0
    passes = total / steps_per_epoch(examples, batch)
    return _that_apply(
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


def about_tokens(tokens: Tokens, max_seq_length: int) -> list[str]:
    """About lengths, and about rows that training and validation share."""
    if not tokens.known:
        return ["The tokens are not counted yet, so lengths are not checked and time and memory not estimated; plan again later."]
    total, cut, truncated, untrainable, shared = (
        sum(getattr(facts, name) for facts in tokens.known)
        for name in ("example_count", "over_length_count", "truncated_answer_count", "untrainable_count", "rows_in_validation")
    )
    return _that_apply(
        (
            cut > 0,
            f"{cut} of {total} examples are longer than max_seq_length {max_seq_length} and are cut there;"
            f" {truncated} of them lose a part of what the model should learn to write.",
        ),
        (untrainable > 0, f"{untrainable} of {total} examples have nothing left to learn from within max_seq_length."),
        (shared > 0, f"{shared} training examples are in the validation data, too: its loss will look too good."),
    )


def _that_apply(*advice: Advice) -> list[str]:
    return [text for applies, text in advice if applies]


def _is_uneven(effective: Hyperparameters, examples: int, batch: int) -> bool:
    # Only worth a word when the rest is a small part of a batch: its gradient is then much noisier.
    rest = math.fmod(examples, batch)
    return examples > batch and 0 < rest < batch / 4 and (effective.max_steps or 0) >= steps_per_epoch(examples, batch)
