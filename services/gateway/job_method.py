"""`method` and the old `hyperparameters` of a job: what is learned, and the three numbers OpenAI knows."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from services.gateway.bodies import Body, optional, required
from services.gateway.failures import refused
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters

AUTO = "auto"
_KINDS = {"supervised": FineTuning.SFT, "dpo": FineTuning.DPO}
_NUMBERS = {"n_epochs": int, "batch_size": int, "learning_rate_multiplier": float}


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """None = `auto`: resolved by the task manager."""

    kind: FineTuning.Method.ValueType
    n_epochs: int | None = None
    batch_size: int | None = None
    beta: float | None = None

    def write(self, numbers: Hyperparameters) -> None:
        """Sets the numbers; raises InvalidArgument where `tunesmith.hyperparameters` has said something else."""
        for name, field, value in (
            ("n_epochs", "num_train_epochs", self.n_epochs),
            ("batch_size", "global_batch_size", self.batch_size),
        ):
            if value is not None:
                _once(numbers, field, name)
                setattr(numbers, field, value)
        if self.beta is not None:
            _once(numbers.preference, "beta", "beta")
            numbers.preference.beta = self.beta


def method_of(body: Body) -> Method:
    """What the body asks for; raises InvalidArgument."""
    kind, given, path = _chosen(body)
    beta = _number(given, "beta", float, path) if kind == FineTuning.DPO else None
    for name in sorted(set(given) - {*_NUMBERS, *(["beta"] if kind == FineTuning.DPO else [])}):
        raise refused(path + name, "is not known; name our own numbers in tunesmith.hyperparameters")
    return Method(kind, _number(given, "n_epochs", int, path), _number(given, "batch_size", int, path), beta)


def multiplier_of(body: Body) -> float | None:
    """`learning_rate_multiplier`: times the learning rate that would be chosen; None = `auto`."""
    _, given, path = _chosen(body)
    multiplier: float | None = _number(given, "learning_rate_multiplier", float, path)
    return multiplier


def _chosen(body: Body) -> tuple[FineTuning.Method.ValueType, Mapping[str, Any], str]:
    """The method, its numbers, and where they stand in the body."""
    old = optional(body, "hyperparameters", dict) or {}
    method = optional(body, "method", dict)
    if method is None:
        return FineTuning.SFT, old, "hyperparameters."
    kind = required(method, "type", str, "method.")
    if kind not in _KINDS:
        raise refused("method.type", f"{kind[:40]!r} is not supported; use supervised or dpo, or tunesmith.method for others")
    settings = optional(method, kind, dict, "method.") or {}
    given = optional(settings, "hyperparameters", dict, f"method.{kind}.")
    if given and old:
        raise refused("hyperparameters", f"is the old place; method.{kind}.hyperparameters is given, too")
    return _KINDS[kind], given or old, f"method.{kind}.hyperparameters." if given else "hyperparameters."


def _number(given: Mapping[str, Any], name: str, kind: type, path: str) -> Any:
    if given.get(name) == AUTO:
        return None
    value = optional(given, name, kind, path)
    if value is not None and not 0 < value < 2**31:
        raise refused(path + name, f"{value} is not more than 0")
    return value


def _once(numbers: Any, field: str, name: str) -> None:
    if numbers.HasField(field):
        raise refused(f"tunesmith.hyperparameters.{field}", f"stands beside {name}, which means the same; give one of them")
