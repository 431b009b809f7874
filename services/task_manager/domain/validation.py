"""Everything about a new task that can be checked without asking anybody; all that is wrong is told at once."""

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Iterator, Mapping

from services.common.errors import InvalidArgument, Violation
from services.common.names import base_model_id
from services.task_manager.domain import batch_sizes, deepspeed_overrides, evaluation, limits, methods, training_data
from services.task_manager.domain.hyperparameters import PATH, Hyperparameters, asked_batch_sizes, default_zero_stage
from services.task_manager.domain.task import TaskUpdate
from services.task_manager.domain.training_data import WeightedDataset

MAX_DISPLAY_NAME = 128
MAX_DESCRIPTION = 2000
MAX_LABELS = 64
MAX_LABEL_KEY = 64
MAX_LABEL_VALUE = 512
MAX_REASON = 500
MAX_PRIORITY = 100
MAX_ATTEMPTS = 100
MIN_RETENTION, MAX_RETENTION = 3600, 365 * 86400
"""Seconds for which the results of a task can be asked to be kept."""

FINE_TUNING = "task.spec.fine_tuning"
"""Where the ask stands in a request."""


@dataclasses.dataclass(frozen=True, slots=True)
class FineTuning:
    """The ask for a fine-tuning."""

    base_model: str
    dataset: str
    validation_dataset: str
    method_known: bool
    tuning_known: bool
    hyperparameters: Hyperparameters
    method: str = "SFT"
    """Name of a value of FineTuning.Method."""
    tuning: str = "LORA"
    """Name of a value of FineTuning.Tuning."""
    mixture: tuple[WeightedDataset, ...] = ()
    validation_split_ratio: float | None = None
    initial_artifact: str = ""
    """What it starts from; empty = the base model alone."""
    sample_prompts: tuple[str, ...] = ()
    artifact_retention_seconds: int | None = None
    """None = as the server keeps artifacts."""

    @property
    def sources(self) -> tuple[WeightedDataset, ...]:
        """The training data: the mixture, or the one dataset."""
        return self.mixture or (WeightedDataset(self.dataset),)

    @property
    def has_validation_data(self) -> bool:
        """Whether a validation loss will be measured."""
        return bool(self.validation_dataset) or self.validation_split_ratio is not None

    def source_field(self, index: int) -> str:
        """Where the dataset at `index` of `sources` stands in the request."""
        return f"{FINE_TUNING}.mixture[{index}].dataset" if self.mixture else f"{FINE_TUNING}.dataset"


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """A task as a caller sent it; `fine_tuning` is None when the kind of work is missing."""

    display_name: str
    description: str
    labels: Mapping[str, str]
    fine_tuning: FineTuning | None
    priority: int = 0
    not_before: datetime.datetime | None = None
    max_attempts: int | None = None
    """None = what the server is set to."""


def check(draft: Draft, *, named: bool) -> FineTuning:
    """The ask, with full resource names; raises InvalidArgument with every violation. `named`: a display name is required."""
    found = list(_violations(draft, named))
    if found or draft.fine_tuning is None:
        raise InvalidArgument(*found)
    return _with_full_names(draft.fine_tuning)


def check_update(update: TaskUpdate) -> None:
    """Raises InvalidArgument with every violation of what is to be changed."""
    found = [
        *(_text("task.display_name", update.display_name, 1, MAX_DISPLAY_NAME) if update.display_name is not None else ()),
        *(_text("task.description", update.description, 0, MAX_DESCRIPTION) if update.description is not None else ()),
        *_labels(update.labels or {}),
        *_priority(update.priority or 0),
    ]
    if found:
        raise InvalidArgument(*found)


def check_request_id(request_id: str) -> uuid.UUID | None:
    """The UUID, None when empty; raises InvalidArgument."""
    if not request_id:
        return None
    try:
        return uuid.UUID(request_id)
    except ValueError:
        raise InvalidArgument(Violation("request_id", f"{request_id[:80]!r} is not a UUID")) from None


def check_reason(reason: str) -> None:
    """Raises InvalidArgument when the reason of a cancelling is too long."""
    found = list(_text("reason", reason, 0, MAX_REASON))
    if found:
        raise InvalidArgument(*found)


def _violations(draft: Draft, named: bool) -> Iterator[Violation]:
    yield from _text("task.display_name", draft.display_name, 1 if named else 0, MAX_DISPLAY_NAME)
    yield from _text("task.description", draft.description, 0, MAX_DESCRIPTION)
    yield from _labels(draft.labels)
    yield from _priority(draft.priority)
    if draft.max_attempts is not None and not 1 <= draft.max_attempts <= MAX_ATTEMPTS:
        yield Violation("task.max_attempts", f"{draft.max_attempts} is not between 1 and {MAX_ATTEMPTS}; 0 = the default")
    if draft.fine_tuning is None:
        yield Violation("task.spec.kind", "is required; set fine_tuning")
    else:
        yield from _fine_tuning(draft.fine_tuning)


def _text(field: str, text: str, low: int, high: int) -> Iterator[Violation]:
    if len(text) < low or (low and not text.strip()):
        yield Violation(field, "is required")
    if len(text) > high:
        yield Violation(field, f"has {len(text)} characters; at most {high} are permitted")
    if "\0" in text:
        yield Violation(field, "contains the character NUL")


def _labels(labels: Mapping[str, str]) -> Iterator[Violation]:
    if len(labels) > MAX_LABELS:
        yield Violation("task.labels", f"has {len(labels)} entries; at most {MAX_LABELS} are permitted")
    for key, value in sorted(labels.items()):
        yield from _text(f"task.labels[{key[:80]!r}]", value, 0, MAX_LABEL_VALUE)
        if not 1 <= len(key) <= MAX_LABEL_KEY or "\0" in key:
            yield Violation(f"task.labels[{key[:80]!r}]", f"keys have 1 to {MAX_LABEL_KEY} characters")


def _priority(priority: int) -> Iterator[Violation]:
    if abs(priority) > MAX_PRIORITY:
        yield Violation("task.priority", f"{priority} is not between -{MAX_PRIORITY} and {MAX_PRIORITY}")


def _fine_tuning(ask: FineTuning) -> Iterator[Violation]:
    yield from _name(lambda: base_model_id(ask.base_model, f"{FINE_TUNING}.base_model"))
    yield from training_data.violations(ask.dataset, ask.mixture, ask.validation_dataset, ask.validation_split_ratio, FINE_TUNING)
    if not ask.method_known:
        yield Violation(
            f"{FINE_TUNING}.method", "is not a method this server knows; use SFT, DPO, KTO, ORPO, CPT or CLASSIFICATION"
        )
    if not ask.tuning_known:
        yield Violation(f"{FINE_TUNING}.tuning", "is not a tuning this server knows; use LORA or FULL")
    yield from _hyperparameters(ask)
    if ask.method_known and ask.tuning_known:
        yield from methods.violations(ask.method, ask.tuning, ask.hyperparameters, spec=FINE_TUNING, numbers=PATH)
    yield from _deepspeed_overrides(ask.hyperparameters)
    yield from evaluation.prompt_violations(ask.sample_prompts, ask.method, f"{FINE_TUNING}.sample_prompts")
    yield from _retention(ask.artifact_retention_seconds)


def _retention(seconds: int | None) -> Iterator[Violation]:
    if seconds is not None and not MIN_RETENTION <= seconds <= MAX_RETENTION:
        yield Violation(f"{FINE_TUNING}.artifact_retention", f"{seconds} s is not within 1 hour and 365 days")


def _deepspeed_overrides(given: Hyperparameters) -> Iterator[Violation]:
    if given.deepspeed_overrides:
        stage = default_zero_stage(given.num_processes or 1) if given.zero_stage is None else given.zero_stage
        yield from deepspeed_overrides.violations(given.deepspeed_overrides, stage, f"{PATH}.deepspeed_overrides")


def _hyperparameters(ask: FineTuning) -> Iterator[Violation]:
    out_of_range = list(limits.violations(ask.hyperparameters, PATH))
    yield from out_of_range
    yield from evaluation.violations(
        ask.hyperparameters, PATH, has_validation_data=ask.has_validation_data, has_samples=bool(ask.sample_prompts)
    )
    # Sizes out of range are already told; the sum of several wrongs would only confuse.
    if not out_of_range:
        yield from _name(lambda: batch_sizes.resolve(asked_batch_sizes(ask.hyperparameters), PATH))


def _name(parse: Callable[[], object]) -> Iterator[Violation]:
    try:
        parse()
    except InvalidArgument as error:
        yield from error.violations


def _with_full_names(ask: FineTuning) -> FineTuning:
    return dataclasses.replace(
        ask,
        base_model=f"baseModels/{base_model_id(ask.base_model)}",
        dataset=training_data.full_name(ask.dataset),
        mixture=tuple(dataclasses.replace(each, dataset=training_data.full_name(each.dataset)) for each in ask.mixture),
        validation_dataset=training_data.full_name(ask.validation_dataset),
    )
