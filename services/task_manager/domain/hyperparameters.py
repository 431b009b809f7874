"""The numbers of a training run and how every unset one is resolved; used when a task is created or planned."""

import dataclasses
import math
from typing import TypeVar

from services.common.errors import InvalidArgument, Violation
from services.task_manager.domain import batch_sizes
from services.task_manager.domain.steps import steps_per_epoch, total_steps

T = TypeVar("T")

PATH = "task.spec.fine_tuning.hyperparameters"

DEFAULT_EPOCHS = 3.0
DEFAULT_WARMUP_RATIO = 0.05
DEFAULT_MAX_SEQ_LENGTH = 2048
DEFAULT_SAVE_INTERVAL_SECONDS = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class Lora:
    """Numbers of a low-rank adapter; None or empty = unset."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    use_rslora: bool | None = None
    use_dora: bool | None = None
    last_layers: int | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """What of a model has adapters: names of modules, with their layers where those are not all."""
        return tuple(f"layers[-{self.last_layers}:].{name}" if self.last_layers else name for name in self.target_modules)


@dataclasses.dataclass(frozen=True, slots=True)
class Preference:
    """Numbers of the preference methods; None = unset, or not one of the method."""

    beta: float | None = None
    label_smoothing: float | None = None
    reference_free: bool | None = None
    sft_loss_weight: float | None = None
    desirable_weight: float | None = None
    undesirable_weight: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Field by field the message of the same name; None = unset."""

    num_train_epochs: float | None = None
    max_steps: int | None = None
    learning_rate: float | None = None
    global_batch_size: int | None = None
    per_device_train_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    lr_scheduler_type: str | None = None
    warmup_ratio: float | None = None
    warmup_steps: int | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    max_seq_length: int | None = None
    seed: int | None = None
    logging_steps: int | None = None
    eval_steps: int | None = None
    save_steps: int | None = None
    save_interval_seconds: float | None = None
    save_total_limit: int | None = None
    precision: str | None = None
    num_processes: int | None = None
    zero_stage: int | None = None
    deepspeed_overrides: str | None = None
    non_finite_policy: str | None = None
    max_skipped_batches: int | None = None
    rehearsal: str | None = None
    packing: bool | None = None
    stall_policy: str | None = None
    early_stopping_patience: int | None = None
    early_stopping_min_delta: float | None = None
    time_limit_seconds: float | None = None
    lora: Lora = Lora()
    preference: Preference = Preference()


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What resolving has to know about the data and the base model."""

    example_count: int
    context_length: int
    """Tokens; 0 = not known."""
    has_validation_data: bool
    learning_rate: float = 2e-4
    """What method and tuning learn with unless asked otherwise."""
    preference: Preference = Preference()
    """The method's numbers as they are unless asked otherwise; empty = it takes none."""
    has_adapter: bool = True
    has_samples: bool = False
    """Whether there are prompts to answer while training."""


def asked_batch_sizes(given: Hyperparameters) -> batch_sizes.BatchSizes:
    """The batch sizes as asked for."""
    return batch_sizes.BatchSizes(
        given.global_batch_size, given.per_device_train_batch_size, given.gradient_accumulation_steps, given.num_processes or 1
    )


def resolve(given: Hyperparameters, facts: Facts) -> Hyperparameters:
    """The effective values: what was given, and a value for everything that was not, but for `precision`, which the device
    decides, `eval_steps` without anything to evaluate, and what ends a run early. `given` is within its limits; raises
    InvalidArgument for contradictions.
    """
    sizes = batch_sizes.resolve(asked_batch_sizes(given), PATH)
    processes = _or(given.num_processes, 1)
    per_epoch = steps_per_epoch(facts.example_count, sizes.global_batch_size)
    epochs = _or(given.num_train_epochs, DEFAULT_EPOCHS if given.max_steps is None else given.max_steps / per_epoch)
    total = _or(given.max_steps, total_steps(epochs, facts.example_count, sizes.global_batch_size))
    return dataclasses.replace(
        _with_warmup(_with_plain_defaults(given, facts.learning_rate), given, total),
        num_train_epochs=epochs,
        max_steps=total,
        global_batch_size=sizes.global_batch_size,
        per_device_train_batch_size=sizes.per_device_train_batch_size,
        gradient_accumulation_steps=sizes.gradient_accumulation_steps,
        max_seq_length=_max_seq_length(given.max_seq_length, facts.context_length),
        eval_steps=_or(given.eval_steps, per_epoch) if facts.has_validation_data or facts.has_samples else None,
        num_processes=processes,
        zero_stage=_or(given.zero_stage, default_zero_stage(processes)),
        lora=_lora(given.lora) if facts.has_adapter else Lora(),
        preference=_preference(given.preference, facts.preference),
    )


def default_zero_stage(processes: int) -> int:
    """Cutting the optimizer's state only pays with somebody to share it."""
    return 0 if processes == 1 else 2


def _with_plain_defaults(given: Hyperparameters, learning_rate: float) -> Hyperparameters:
    return dataclasses.replace(
        given,
        learning_rate=_or(given.learning_rate, learning_rate),
        lr_scheduler_type=_or(given.lr_scheduler_type, "cosine"),
        weight_decay=_or(given.weight_decay, 0.0),
        max_grad_norm=_or(given.max_grad_norm, 1.0),
        seed=_or(given.seed, 42),
        logging_steps=_or(given.logging_steps, 1),
        save_interval_seconds=_or(
            given.save_interval_seconds, DEFAULT_SAVE_INTERVAL_SECONDS if given.save_steps is None else None
        ),
        save_total_limit=_or(given.save_total_limit, 2),
        non_finite_policy=_or(given.non_finite_policy, "fail"),
        max_skipped_batches=_or(given.max_skipped_batches, 3),
        rehearsal=_or(given.rehearsal, "auto"),
        packing=_or(given.packing, True),
        stall_policy=_or(given.stall_policy, "warn"),
        early_stopping_min_delta=_or(given.early_stopping_min_delta, 0.0 if given.early_stopping_patience else None),
    )


def _with_warmup(resolved: Hyperparameters, given: Hyperparameters, total: int) -> Hyperparameters:
    if given.warmup_steps is not None:
        ratio = _or(given.warmup_ratio, min(1.0, given.warmup_steps / total))
        return dataclasses.replace(resolved, warmup_ratio=ratio)
    ratio = _or(given.warmup_ratio, DEFAULT_WARMUP_RATIO)
    # Rounded down: a run of a few steps must not spend its only steps at a learning rate near 0.
    return dataclasses.replace(resolved, warmup_ratio=ratio, warmup_steps=math.floor(round(ratio * total, 9)))


def _max_seq_length(given: int | None, context_length: int) -> int:
    if given is None:
        return min(DEFAULT_MAX_SEQ_LENGTH, context_length) if context_length else DEFAULT_MAX_SEQ_LENGTH
    if context_length and given > context_length:
        text = f"{given} is too large; the base model's context length is {context_length}"
        raise InvalidArgument(Violation(f"{PATH}.max_seq_length", text))
    return given


def _lora(given: Lora) -> Lora:
    rank = _or(given.rank, 16)
    return Lora(
        rank=rank,
        alpha=_or(given.alpha, 2.0 * rank),
        dropout=_or(given.dropout, 0.0),
        target_modules=given.target_modules or ("all-linear",),
        use_rslora=_or(given.use_rslora, False),
        use_dora=_or(given.use_dora, False),
        last_layers=_or(given.last_layers, 0),
    )


def _preference(given: Preference, defaults: Preference) -> Preference:
    names = [field.name for field in dataclasses.fields(defaults)]
    return Preference(**{name: _or(getattr(given, name), getattr(defaults, name)) for name in names})


def _or(given: T | None, default: T) -> T:
    return default if given is None else given
