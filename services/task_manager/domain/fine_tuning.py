"""The ask for a fine-tuning and the rules about it that need nobody's answer."""

import dataclasses
from collections.abc import Iterator
from typing import Self

from services.common.errors import Violation
from services.common.names import base_model_id, resource_uuid
from services.task_manager.domain import batch_sizes, deepspeed_overrides, evaluation, limits, methods, training_data
from services.task_manager.domain.hyperparameters import PATH, Hyperparameters, asked_batch_sizes, default_zero_stage
from services.task_manager.domain.training_data import WeightedDataset
from services.task_manager.domain.validation import name_violations

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
    evaluation_dataset: str = ""
    """Whose questions the result and the base model are to answer; empty = none."""
    evaluation_checkpoints: bool = False
    """Whether the kept checkpoints are to answer them, too."""

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

    def violations(self) -> Iterator[Violation]:
        """Everything that is wrong with it."""
        yield from name_violations(lambda: base_model_id(self.base_model, f"{FINE_TUNING}.base_model"))
        yield from training_data.violations(
            self.dataset, self.mixture, self.validation_dataset, self.validation_split_ratio, FINE_TUNING
        )
        if not self.method_known:
            yield Violation(
                f"{FINE_TUNING}.method", "is not a method this server knows; use SFT, DPO, KTO, ORPO, CPT or CLASSIFICATION"
            )
        if not self.tuning_known:
            yield Violation(f"{FINE_TUNING}.tuning", "is not a tuning this server knows; use LORA, QLORA or FULL")
        yield from _hyperparameters(self)
        if self.method_known and self.tuning_known:
            yield from methods.violations(self.method, self.tuning, self.hyperparameters, spec=FINE_TUNING, numbers=PATH)
        yield from _deepspeed_overrides(self.hyperparameters)
        yield from _evaluation(self)
        yield from evaluation.prompt_violations(self.sample_prompts, self.method, f"{FINE_TUNING}.sample_prompts")
        yield from _retention(self.artifact_retention_seconds)

    def with_full_names(self) -> Self:
        """The same, bare ids made resource names."""
        return dataclasses.replace(
            self,
            base_model=f"baseModels/{base_model_id(self.base_model)}",
            dataset=training_data.full_name(self.dataset),
            mixture=tuple(dataclasses.replace(each, dataset=training_data.full_name(each.dataset)) for each in self.mixture),
            validation_dataset=training_data.full_name(self.validation_dataset),
            evaluation_dataset=training_data.full_name(self.evaluation_dataset),
        )


def _retention(seconds: int | None) -> Iterator[Violation]:
    if seconds is not None and not MIN_RETENTION <= seconds <= MAX_RETENTION:
        yield Violation(f"{FINE_TUNING}.artifact_retention", f"{seconds} s is not within 1 hour and 365 days")


def _evaluation(ask: FineTuning) -> Iterator[Violation]:
    if ask.evaluation_checkpoints and not ask.evaluation_dataset:
        yield Violation(f"{FINE_TUNING}.evaluation_checkpoints", "needs evaluation_dataset")
    if ask.evaluation_dataset:
        field = f"{FINE_TUNING}.evaluation_dataset"
        yield from name_violations(lambda: resource_uuid(ask.evaluation_dataset, "datasets", field))
        if ask.method == "CLASSIFICATION":
            yield Violation(field, "method CLASSIFICATION answers with a label and cannot be asked questions")


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
        yield from name_violations(lambda: batch_sizes.resolve(asked_batch_sizes(ask.hyperparameters), PATH))
