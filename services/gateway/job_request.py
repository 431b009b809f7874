"""POST /v1/fine_tuning/jobs as CreateTask: every field that is read, and what is said about those that cannot be."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from services.gateway import identifiers
from services.gateway.bodies import Body, in_32_bits, optional, required
from services.gateway.failures import refused
from services.gateway.identifiers import TunedModel
from services.gateway.job_labels import labels_of
from services.gateway.job_method import method_of
from services.gateway.unsupported import refuse_present
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, TaskSpec

_MAX_SUFFIX = 64
_OURS = ("description", "display_name", "hyperparameters", "method", "priority", "tuning", "validation_split_ratio")
_READ = ("model", "training_file", "validation_file", "suffix", "seed", "metadata", "method", "hyperparameters", "tunesmith")
REFUSED = {"integrations": "is not supported; metrics stream from /v1/fine_tuning/jobs/{id}/metrics"}


def task_of(body: Body, start: TunedModel | None) -> Task:
    """The task to create; `start` is the tuned model that `model` names, if it names one.

    The learning rate is still missing when a multiplier is given. Raises InvalidArgument.
    """
    ours = optional(body, "tunesmith", dict) or {}
    _refuse_unknown(ours)
    refuse_present(body, REFUSED)
    suffix = optional(body, "suffix", str) or ""
    if len(suffix) > _MAX_SUFFIX:
        raise refused("suffix", f"has {len(suffix)} characters; at most {_MAX_SUFFIX} are permitted")
    spec = _fine_tuning(body, ours, start)
    return Task(
        display_name=optional(ours, "display_name", str, "tunesmith.") or suffix or spec.base_model,
        description=optional(ours, "description", str, "tunesmith.") or "",
        priority=in_32_bits("tunesmith.priority", optional(ours, "priority", int, "tunesmith.") or 0),
        labels=labels_of(body, suffix),
        spec=TaskSpec(fine_tuning=spec),
    )


def ignored(body: Body) -> list[str]:
    """What the body has beyond what is read; it is told in a header."""
    return sorted(set(body) - {*_READ, *REFUSED})


def _fine_tuning(body: Body, ours: Mapping[str, Any], start: TunedModel | None) -> FineTuning:
    method = method_of(body)
    model = required(body, "model", str)
    spec = FineTuning(
        base_model=start.base_model if start else model,
        initial_artifact=start.model if start else "",
        dataset=_dataset(body, "training_file"),
        validation_dataset=_dataset(body, "validation_file") if body.get("validation_file") else "",
        method=_enum(FineTuning.Method, ours, "method") or method.kind,
        tuning=_enum(FineTuning.Tuning, ours, "tuning"),
        hyperparameters=_numbers(ours),
    )
    if (ratio := optional(ours, "validation_split_ratio", float, "tunesmith.")) is not None:
        spec.validation_split_ratio = ratio
    method.write(spec.hyperparameters)
    if (seed := optional(body, "seed", int)) is not None:
        spec.hyperparameters.seed = seed
    return spec


def _dataset(body: Body, name: str) -> str:
    given = required(body, name, str)
    if identifiers.results_task(given) or identifiers.batch_file_task(given):
        raise refused(name, f"{given!r} holds results, not training data")
    return identifiers.dataset_name(given)


def _numbers(ours: Mapping[str, Any]) -> Hyperparameters:
    given = optional(ours, "hyperparameters", dict, "tunesmith.") or {}
    _refuse_no_fields(given, Hyperparameters.DESCRIPTOR, "tunesmith.hyperparameters.")
    try:
        return json_format.ParseDict(given, Hyperparameters())
    except json_format.ParseError as error:
        raise refused("tunesmith.hyperparameters", str(error)) from None


def _refuse_no_fields(given: Mapping[str, Any], message: Any, path: str) -> None:
    """Raises InvalidArgument naming the first field that the message does not have."""
    for name, value in given.items():
        field = message.fields_by_name.get(name) or message.fields_by_camelcase_name.get(name)
        if field is None:
            raise refused(path + str(name)[:40], f"is not known; known are {', '.join(message.fields_by_name)}")
        if isinstance(value, dict) and field.message_type is not None:
            _refuse_no_fields(value, field.message_type, f"{path}{name}.")


def _enum(enum: Any, ours: Mapping[str, Any], name: str) -> Any:
    word = optional(ours, name, str, "tunesmith.")
    known = [each.lower() for each in enum.keys()[1:]]
    if word is not None and word.lower() not in known:
        raise refused(f"tunesmith.{name}", f"{word[:40]!r} is none of {', '.join(known)}")
    return enum.Value(word.upper()) if word else 0


def _refuse_unknown(ours: Mapping[str, Any]) -> None:
    for name in sorted(set(ours) - set(_OURS)):
        raise refused(f"tunesmith.{name}", f"is not known; known are {', '.join(_OURS)}")
