"""The numbers of a run, from its proto; used by the kinds that have some."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from tunesmith.v1 import task_spec_pb2, trainer_service_pb2

_OF_OLD: Mapping[str, Any] = {
    "save_total_limit": 2,
    "non_finite_policy": "fail",
    "max_skipped_batches": 3,
    "rehearsal": "auto",
    "packing": True,
    "stall_policy": "warn",
}


def numbers(message: task_spec_pb2.Hyperparameters) -> dict[str, Any]:
    """Every hyperparameter by name, None where unset; groups are mappings, None when nothing in them is set."""
    values = _scalars(message)
    values["lora"] = _lora(message.lora) if message.HasField("lora") else None
    values["preference"] = _scalars(message.preference) if message.HasField("preference") else None
    values["num_processes"] = values["num_processes"] or 1
    # Tasks from before there was such a number do not say it.
    return {name: _OF_OLD[name] if value is None and name in _OF_OLD else value for name, value in values.items()}


def of_document(document: str) -> task_spec_pb2.Hyperparameters:
    """The numbers of a run's document as they came."""
    return json_format.Parse(document, trainer_service_pb2.Run(), ignore_unknown_fields=True).hyperparameters


def _lora(message: task_spec_pb2.Lora) -> dict[str, Any]:
    values = _scalars(message) | {"target_modules": list(message.target_modules)}
    return values | {"last_layers": message.last_layers}  # of old, too


def _scalars(message: Any) -> dict[str, Any]:
    fields = [field for field in message.DESCRIPTOR.fields if field.message_type is None and not field.is_repeated]
    return {field.name: getattr(message, field.name) if message.HasField(field.name) else None for field in fields}
