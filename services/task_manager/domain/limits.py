"""The permitted range of every hyperparameter, as data, and the check; used when a task is validated."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

from services.common.errors import Violation
from services.task_manager.domain.hyperparameters import Hyperparameters, Lora, Preference


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Smallest and largest permitted value; an `open_` end is itself not permitted."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def refusal(self, value: float) -> str:
        """Why `value` is not permitted, empty when it is."""
        if not math.isfinite(value):
            return f"{value} is not a finite number"
        if value < self.low or (self.open_low and value == self.low):
            return f"{value:.17g} is too small; it must be {'more than' if self.open_low else 'at least'} {self.low:.17g}"
        if value > self.high or (self.open_high and value == self.high):
            return f"{value:.17g} is too large; it must be {'less than' if self.open_high else 'at most'} {self.high:.17g}"
        return ""


RANGES: Mapping[str, Range] = {
    "num_train_epochs": Range(0, 100, open_low=True),
    "max_steps": Range(1, 10_000_000),
    "learning_rate": Range(0, 1, open_low=True),
    "global_batch_size": Range(1, 4096),
    "per_device_train_batch_size": Range(1, 1024),
    "gradient_accumulation_steps": Range(1, 4096),
    "warmup_ratio": Range(0, 1),
    "warmup_steps": Range(0, 10_000_000),
    "weight_decay": Range(0, 1),
    "max_grad_norm": Range(0, open_low=True),
    "max_seq_length": Range(8),
    "seed": Range(0, 2**31 - 1),
    "logging_steps": Range(1),
    "eval_steps": Range(1),
    "num_processes": Range(1, 64),
    "zero_stage": Range(0, 3),
    "save_steps": Range(1),
    "save_interval_seconds": Range(1),
    "save_total_limit": Range(1, 100),
    "max_skipped_batches": Range(1, 1000),
    "early_stopping_patience": Range(1, 1000),
    "early_stopping_min_delta": Range(0),
    "time_limit_seconds": Range(1),
}
LORA_RANGES: Mapping[str, Range] = {
    "rank": Range(1, 512),
    "alpha": Range(0, open_low=True),
    "dropout": Range(0, 1, open_high=True),
    "last_layers": Range(0),
}
PREFERENCE_RANGES: Mapping[str, Range] = {
    "beta": Range(0, 10, open_low=True),
    "label_smoothing": Range(0, 0.5, open_high=True),
    "sft_loss_weight": Range(0, 100),
    "desirable_weight": Range(0, 100, open_low=True),
    "undesirable_weight": Range(0, 100, open_low=True),
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "lr_scheduler_type": ("linear", "cosine", "constant"),
    "precision": ("fp32", "fp16", "bf16"),
    "non_finite_policy": ("fail", "skip", "rollback"),
    "rehearsal": ("auto", "always", "never"),
    "stall_policy": ("warn", "fail"),
}
_MAX_TARGET_MODULES = 64
_MAX_TARGET_MODULE_LENGTH = 200


def violations(given: Hyperparameters, path: str) -> Iterator[Violation]:
    """Every field of `given` that is out of its range; `path` is where the message stands in the request."""
    yield from _out_of_range(given, RANGES, path)
    yield from _out_of_range(given.lora, LORA_RANGES, f"{path}.lora")
    yield from _out_of_range(given.preference, PREFERENCE_RANGES, f"{path}.preference")
    for field, choices in CHOICES.items():
        value = getattr(given, field)
        if value is not None and value not in choices:
            yield Violation(f"{path}.{field}", f"{value[:80]!r} is not one of {', '.join(choices)}")
    yield from _target_modules(given.lora, f"{path}.lora.target_modules")


def _out_of_range(message: Hyperparameters | Lora | Preference, ranges: Mapping[str, Range], path: str) -> Iterator[Violation]:
    for field, permitted in ranges.items():
        value = getattr(message, field)
        if value is not None and (refusal := permitted.refusal(value)):
            yield Violation(f"{path}.{field}", refusal)


def _target_modules(lora: Lora, path: str) -> Iterator[Violation]:
    if len(lora.target_modules) > _MAX_TARGET_MODULES:
        yield Violation(path, f"has {len(lora.target_modules)} names; at most {_MAX_TARGET_MODULES} are permitted")
    for index, name in enumerate(lora.target_modules):
        if not 1 <= len(name) <= _MAX_TARGET_MODULE_LENGTH:
            yield Violation(f"{path}[{index}]", f"must have 1 to {_MAX_TARGET_MODULE_LENGTH} characters")
