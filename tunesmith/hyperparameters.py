"""Hyperparameters from keys and values as people write them: nested, dotted, or as text; used by SDK and command line."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tunesmith.errors import InvalidArgument
from tunesmith.v1.task_spec_pb2 import Hyperparameters

_GROUPS = tuple(field.name for field in Hyperparameters.DESCRIPTOR.fields if field.message_type)
"""Messages within the message: `lora`, `preference`."""
_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")
# What other programs call it.
_OTHER_WORDS = {
    "epochs": "num_train_epochs",
    "n_epochs": "num_train_epochs",
    "lr": "learning_rate",
    "batch_size": "global_batch_size",
    "scheduler": "lr_scheduler_type",
    "max_length": "max_seq_length",
    "steps": "max_steps",
    "rank": "lora.rank",
    "r": "lora.rank",
    "alpha": "lora.alpha",
    "beta": "preference.beta",
    "label_smoothing": "preference.label_smoothing",
}


def build(values: Mapping[str, Any]) -> Hyperparameters:
    """Keys are fields (`learning_rate`), dotted (`lora.rank`), joined (`lora_rank`) or nested (`{"lora": {"rank": 8}}`).

    Raises:
        InvalidArgument: HYPERPARAMETER_UNKNOWN with what was probably meant, HYPERPARAMETER_INVALID for a value of another type.
    """
    result = Hyperparameters()
    for key, value in _flat(values).items():
        _assign(result, key, value)
    return result


def merge(target: Hyperparameters, changes: Hyperparameters) -> None:
    """Puts `changes` over `target`; lists are replaced."""
    if changes.lora.target_modules:
        target.lora.ClearField("target_modules")
    target.MergeFrom(changes)


def known_keys() -> list[str]:
    """Every key, dotted."""
    return [key for key in _fields() if key not in _GROUPS]


def parse_settings(settings: list[str]) -> dict[str, str]:
    """`["learning_rate=1e-4"]` as `{"learning_rate": "1e-4"}`.

    Raises:
        InvalidArgument: HYPERPARAMETER_INVALID when there is no `=`.
    """
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise _invalid(setting, "is not KEY=VALUE")
        pairs[key.strip()] = value.strip()
    return pairs


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in _GROUPS and isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[key] = value
    return flat


def _fields() -> dict[str, FieldDescriptor]:
    fields = dict(Hyperparameters.DESCRIPTOR.fields_by_name)
    for group in _GROUPS:
        inner = Hyperparameters.DESCRIPTOR.fields_by_name[group].message_type
        assert inner is not None, "a group is a message"
        fields |= {f"{group}.{name}": field for name, field in inner.fields_by_name.items()}
    return fields


def _dotted(key: str) -> str:
    """`lora_rank` as `lora.rank`."""
    return next((f"{group}.{key[len(group) + 1 :]}" for group in _GROUPS if key.startswith(f"{group}_")), key)


def _assign(target: Hyperparameters, key: str, value: Any) -> None:
    dotted = _dotted(key)
    field = _fields().get(dotted)
    if field is None or dotted in _GROUPS:
        raise _unknown(key)
    group, dot, _ = dotted.partition(".")
    owner: Any = getattr(target, group) if dot else target
    try:
        if field.is_repeated:
            items = [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)
            getattr(owner, field.name).extend(items)
        else:
            setattr(owner, field.name, _convert(field, value))
    except (ValueError, TypeError) as error:
        raise _invalid(key, f"does not take {value!r}") from error


def _convert(field: FieldDescriptor, value: Any) -> Any:
    if isinstance(value, Mapping) and field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return json.dumps(value)
    if not isinstance(value, str) or field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return value
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if value.lower() not in _TRUE + _FALSE:
            raise ValueError(value)
        return value.lower() in _TRUE
    return float(value) if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE else int(value)


def _unknown(key: str) -> InvalidArgument:
    close = [_OTHER_WORDS[key]] if key in _OTHER_WORDS else difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(known_keys())}."
    return InvalidArgument(f"there is no hyperparameter {key!r}", reason="HYPERPARAMETER_UNKNOWN", hint=hint)


def _invalid(key: str, problem: str) -> InvalidArgument:
    hint = "For example learning_rate=1e-4, lora.rank=8 or lora.target_modules=q_proj,v_proj."
    return InvalidArgument(f"{key} {problem}", reason="HYPERPARAMETER_INVALID", hint=hint)
