"""Translates what a caller asks for, and its plan, to the domain's values and back; used by creation, servicer and followers."""

import dataclasses
from typing import Any, TypeVar

from services.task_manager.domain.fine_tuning import FineTuning
from services.task_manager.domain.hyperparameters import Hyperparameters, Lora, Preference
from services.task_manager.domain.plan import Plan
from services.task_manager.domain.throughput import RunKind
from services.task_manager.domain.training_data import WeightedDataset
from services.task_manager.domain.validation import A, Draft
from services.task_manager.filter_conversion import time_of
from services.task_manager.times import to_duration
from tunesmith.v1 import task_manager_service_pb2, task_pb2, task_spec_pb2

Values = TypeVar("Values", Hyperparameters, Lora, Preference)

_METHODS = task_spec_pb2.FineTuning.Method
_TUNINGS = task_spec_pb2.FineTuning.Tuning
_GROUPS = ("lora", "preference")


def draft_from_proto(task: task_pb2.Task, ask: A | None) -> Draft[A]:
    """The task as asked for, `ask` what its spec says; nothing is checked yet."""
    return Draft(
        display_name=task.display_name,
        description=task.description,
        labels=dict(task.labels),
        ask=ask,
        priority=task.priority,
        not_before=time_of(task.not_before_time, "task.not_before_time") if task.HasField("not_before_time") else None,
        max_attempts=task.max_attempts or None,
        runner_labels=dict(task.spec.runner_labels),
        creator=task.creator,
    )


def spec_to_store(spec: task_spec_pb2.TaskSpec, ask: FineTuning) -> bytes:
    """The spec as it is kept: full resource names, method and tuning said. The same ask always gives the same bytes."""
    stored = task_spec_pb2.TaskSpec()
    stored.CopyFrom(spec)
    stored.fine_tuning.base_model = ask.base_model
    stored.fine_tuning.dataset = ask.dataset
    for kept, named in zip(stored.fine_tuning.mixture, ask.mixture, strict=True):
        kept.dataset = named.dataset
    stored.fine_tuning.validation_dataset = ask.validation_dataset
    stored.fine_tuning.initial_artifact = ask.initial_artifact
    stored.fine_tuning.evaluation_dataset = ask.evaluation_dataset
    stored.fine_tuning.method = _METHODS.Value(ask.method)
    stored.fine_tuning.tuning = _TUNINGS.Value(ask.tuning)
    return stored.SerializeToString(deterministic=True)


def hyperparameters_to_proto(values: Hyperparameters) -> task_spec_pb2.Hyperparameters:
    """The message; None stays unset, and so does a group of which nothing is set."""
    message = task_spec_pb2.Hyperparameters(**_set_fields(values))
    if lora := _set_fields(values.lora):
        message.lora.MergeFrom(task_spec_pb2.Lora(**lora))
    if preference := _set_fields(values.preference):
        message.preference.MergeFrom(task_spec_pb2.Preference(**preference))
    return message


def hyperparameters_from_proto(given: task_spec_pb2.Hyperparameters) -> Hyperparameters:
    """The values; what is unset is None."""
    lora = _read(Lora, given.lora, target_modules=tuple(given.lora.target_modules))
    return _read(Hyperparameters, given, lora=lora, preference=_read(Preference, given.preference))


def plan_to_proto(plan: Plan) -> task_manager_service_pb2.TaskPlan:
    """The message; an estimate that is None stays unset."""
    special = {"effective", "estimated_duration", "estimate_basis"}
    names = [field.name for field in dataclasses.fields(plan) if field.name not in special]
    return task_manager_service_pb2.TaskPlan(
        effective_hyperparameters=hyperparameters_to_proto(plan.effective),
        estimated_duration=to_duration(plan.estimated_duration),
        estimate_basis=task_manager_service_pb2.TaskPlan.EstimateBasis.Value(plan.estimate_basis.value),
        **{name: getattr(plan, name) for name in names},
    )


def run_kind(spec: bytes, effective_hyperparameters: bytes) -> RunKind:
    """What makes the runs of a stored task comparable with others."""
    ask = task_spec_pb2.TaskSpec.FromString(spec).fine_tuning
    effective = task_spec_pb2.Hyperparameters.FromString(effective_hyperparameters)
    return RunKind(
        base_model=ask.base_model,
        method=task_spec_pb2.FineTuning.Method.Name(ask.method or task_spec_pb2.FineTuning.SFT),
        tuning=task_spec_pb2.FineTuning.Tuning.Name(ask.tuning or task_spec_pb2.FineTuning.LORA),
        processes=effective.num_processes or 1,
        precision=effective.precision,
        lora_rank=effective.lora.rank,
        target_modules=hyperparameters_from_proto(effective).lora.places,
        batch_size=effective.per_device_train_batch_size or 1,
    )


def fine_tuning_from_proto(ask: task_spec_pb2.FineTuning) -> FineTuning:
    """The ask; nothing is checked yet."""
    return FineTuning(
        base_model=ask.base_model,
        dataset=ask.dataset,
        validation_dataset=ask.validation_dataset,
        method_known=ask.method in _METHODS.values(),
        tuning_known=ask.tuning in _TUNINGS.values(),
        hyperparameters=hyperparameters_from_proto(ask.hyperparameters),
        method=_name(_METHODS, ask.method, "SFT"),
        tuning=_name(_TUNINGS, ask.tuning, "LORA"),
        mixture=tuple(_weighted(entry) for entry in ask.mixture),
        validation_split_ratio=ask.validation_split_ratio if ask.HasField("validation_split_ratio") else None,
        initial_artifact=ask.initial_artifact,
        sample_prompts=tuple(ask.sample_prompts),
        artifact_retention_seconds=ask.artifact_retention.seconds if ask.HasField("artifact_retention") else None,
        evaluation_dataset=ask.evaluation_dataset,
        evaluation_checkpoints=ask.evaluation_checkpoints,
    )


def _weighted(entry: task_spec_pb2.WeightedDataset) -> WeightedDataset:
    return WeightedDataset(entry.dataset, entry.weight) if entry.HasField("weight") else WeightedDataset(entry.dataset)


def _name(names: Any, value: int, default: str) -> str:
    """Of an enum's value; unset and unknown ones are the default, and whether it is known is told apart from that."""
    return str(names.Name(value)) if value and value in names.values() else default


def _read(cls: type[Values], message: Any, **special: Any) -> Values:
    names = [field.name for field in dataclasses.fields(cls) if field.name not in special]
    return cls(**{name: getattr(message, name) for name in names if message.HasField(name)}, **special)


def _set_fields(values: Hyperparameters | Lora | Preference) -> dict[str, Any]:
    pairs = ((field.name, getattr(values, field.name)) for field in dataclasses.fields(values) if field.name not in _GROUPS)
    return {name: value for name, value in pairs if value not in (None, ())}
