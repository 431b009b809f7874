"""What a fine-tuning works on, as a value and from its proto."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from services.common.errors import InvalidArgument, Violation
from services.common.names import base_model_id, registered_name, resource_uuid
from services.trainer import four_bit
from services.trainer.hyperparameters import numbers
from tunesmith.v1 import task_spec_pb2, trainer_service_pb2

_FIELD = "run.spec.fine_tuning"
_MAX_WEIGHT, _MAX_SPLIT_RATIO = 100, 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """A dataset to train on, and how often one pass sees each of its rows."""

    dataset: str
    weight: float


@dataclasses.dataclass(frozen=True, slots=True)
class FineTuning:
    """One ask."""

    base_model: str
    sources: tuple[Source, ...]
    """At least one."""
    validation_dataset: str
    """Empty = none."""
    validation_split_ratio: float | None
    """Share of the rows that is held out; None = none."""
    method: str
    tuning: str
    hyperparameters: Mapping[str, Any]
    """All numbers by their proto names; None where unset; `lora` is a mapping of its own."""
    sample_prompts: tuple[str, ...]
    initial_artifact: str = ""
    """Weights to start from; empty = those of the base model."""
    skips_evaluation: bool = False
    """With validation data the losses are enough."""
    evaluation_dataset: str = ""
    """What the result is asked; empty = the validation data."""

    @property
    def num_processes(self) -> int:
        """Ranks it needs."""
        return int(self.hyperparameters["num_processes"])

    @property
    def seed(self) -> int:
        """Decides which rows are held out and which part of a dataset is taken."""
        return int(self.hyperparameters["seed"] or 0)

    @property
    def answering_base(self) -> str:
        """The base model that its result answers with; empty = it needs none beside it, or does not answer."""
        return "" if self.tuning == "full" or self.method == "classification" else self.base_model

    @property
    def lends_held_out_rows(self) -> bool:
        """Whether what a split holds out is needed once more, to ask the result about it; a head of labels was asked already."""
        is_wanted = not (self.skips_evaluation or self.evaluation_dataset or self.method == "classification")
        return is_wanted and self.validation_split_ratio is not None

    @property
    def is_composed(self) -> bool:
        """Whether the training data is anything but one dataset as it is."""
        return self.validation_split_ratio is not None or [source.weight for source in self.sources] != [1.0]


def check(run: trainer_service_pb2.Run) -> None:
    """Raises InvalidArgument naming the field that is wrong."""
    tuning = run.spec.fine_tuning
    base_model_id(tuning.base_model, f"{_FIELD}.base_model")
    _check_sources(tuning)
    if tuning.initial_artifact:
        _check_initial(tuning.initial_artifact)
    if tuning.validation_dataset:
        resource_uuid(tuning.validation_dataset, "datasets", f"{_FIELD}.validation_dataset")
    if tuning.tuning == task_spec_pb2.FineTuning.QLORA and not four_bit.is_possible():
        raise InvalidArgument(Violation(f"{_FIELD}.tuning", "QLORA needs bitsandbytes, which this trainer does not have"))
    if run.hyperparameters.HasField("num_processes") and run.hyperparameters.num_processes < 1:
        raise InvalidArgument(Violation("run.hyperparameters.num_processes", "a run has at least 1 process"))


def read(run: trainer_service_pb2.Run) -> FineTuning:
    """The ask of a run that was checked."""
    tuning = run.spec.fine_tuning
    return FineTuning(
        base_model=tuning.base_model,
        sources=_sources(tuning),
        validation_dataset=tuning.validation_dataset,
        validation_split_ratio=tuning.validation_split_ratio if tuning.HasField("validation_split_ratio") else None,
        method=(task_spec_pb2.FineTuning.Method.Name(tuning.method or task_spec_pb2.FineTuning.SFT)).lower(),
        tuning=(task_spec_pb2.FineTuning.Tuning.Name(tuning.tuning or task_spec_pb2.FineTuning.LORA)).lower(),
        hyperparameters=numbers(run.hyperparameters),
        sample_prompts=tuple(tuning.sample_prompts),
        initial_artifact=tuning.initial_artifact,
        skips_evaluation=tuning.skip_evaluation,
        evaluation_dataset=tuning.evaluation_dataset,
    )


def _check_initial(name: str) -> None:
    field = f"{_FIELD}.initial_artifact"
    if not name.startswith("models/"):
        resource_uuid(name, "artifacts", field)
    elif registered_name(name, field).version is None:
        # An alias may move between two fetches.
        raise InvalidArgument(Violation(field, f"{name} names no version; expected models/{{id}}/versions/{{version}}"))


def _check_sources(tuning: task_spec_pb2.FineTuning) -> None:
    if not tuning.mixture:
        resource_uuid(tuning.dataset, "datasets", f"{_FIELD}.dataset")
    for index, entry in enumerate(tuning.mixture):
        resource_uuid(entry.dataset, "datasets", f"{_FIELD}.mixture[{index}].dataset")
        if entry.HasField("weight") and not 0 < entry.weight <= _MAX_WEIGHT:
            raise InvalidArgument(Violation(f"{_FIELD}.mixture[{index}].weight", f"{entry.weight:g} is not a weight"))
    if tuning.HasField("validation_split_ratio") and (
        tuning.validation_dataset or not 0 < tuning.validation_split_ratio <= _MAX_SPLIT_RATIO
    ):
        raise InvalidArgument(Violation(f"{_FIELD}.validation_split_ratio", f"{tuning.validation_split_ratio:g} cannot be used"))


def _sources(tuning: task_spec_pb2.FineTuning) -> tuple[Source, ...]:
    if not tuning.mixture:
        return (Source(tuning.dataset, 1.0),)
    return tuple(Source(entry.dataset, entry.weight if entry.HasField("weight") else 1.0) for entry in tuning.mixture)
