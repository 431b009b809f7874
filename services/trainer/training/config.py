"""What one run does, read once from CONFIG.json; every module of the training process takes it or a part of it."""

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from services.trainer.training import batch_cut

_PREFERENCE_METHODS = ("dpo", "kto", "orpo")


class ConfigError(ValueError):
    """The configuration is not what the training process understands; names the key by its path."""


@dataclass(frozen=True, slots=True)
class Lora:
    """Numbers of the low-rank adapter."""

    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    """Module names as the model has them; `all-linear` means every one but the output head."""
    use_rslora: bool
    use_dora: bool
    """Magnitude and direction of each weight are tuned apart (DoRA)."""
    last_layers: int
    """Only so many layers at the end of the model have adapters; 0 = all."""


@dataclass(frozen=True, slots=True)
class Preference:
    """Numbers of the preference methods; None = not one of this method."""

    beta: float
    """DPO, KTO: how closely the model is tied to the reference; ORPO: weight of the odds ratio."""
    label_smoothing: float | None
    reference_free: bool | None
    sft_loss_weight: float | None
    desirable_weight: float | None
    undesirable_weight: float | None


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Numbers of the run, resolved but for what only the device can tell; named as Hugging Face names them."""

    num_train_epochs: float
    max_steps: int | None
    """Optimizer steps; None = from `num_train_epochs`."""
    learning_rate: float
    global_batch_size: int
    """Examples per optimizer step over all ranks: the product of the two below and `num_processes`."""
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    lr_scheduler_type: Literal["cosine", "linear", "constant"]
    warmup_ratio: float
    warmup_steps: int | None
    weight_decay: float
    max_grad_norm: float
    max_seq_length: int
    seed: int
    logging_steps: int
    eval_steps: int | None
    """Optimizer steps between two validations; None = once per epoch."""
    save_steps: int | None
    """Optimizer steps between two checkpoints; None = not by steps."""
    save_interval_seconds: float | None
    """Seconds between two checkpoints; None = not by time."""
    save_total_limit: int
    """How many of the newest checkpoints are kept, at least 1; the best by validation loss is kept beside them."""
    precision: Literal["fp32", "fp16", "bf16"] | None
    """Of frozen weights and activations; None = what the device does well. Weights that are trained stay fp32."""
    num_processes: int
    zero_stage: int
    deepspeed_overrides: str | None
    """JSON object laid over the configuration DeepSpeed gets; checked when the task was created."""
    non_finite_policy: Literal["fail", "skip", "rollback"]
    """What is done about a step that is not finite."""
    max_skipped_batches: int
    """How often, before the run fails all the same."""
    rehearsal: Literal["auto", "always", "never"]
    """Whether the longest micro-batch runs once before the first step."""
    packing: bool
    """Whether rows go through the model together as far as memory allows, without padding where it can be."""
    stall_policy: Literal["warn", "fail"]
    """Heeded by the supervisor."""
    early_stopping_patience: int | None
    """Measurements of the validation loss in a row that may be no better; None = any number."""
    early_stopping_min_delta: float | None
    """Nats by which a loss must be lower to be better; only with the former."""
    time_limit_seconds: float | None
    """Training may take so long over all attempts; None = as long as it takes."""
    lora: Lora | None
    """Only with tunings `lora` and `qlora`."""
    preference: Preference | None
    """Only with preference methods."""


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """What an earlier task has learned, to start from."""

    directory: Path
    """The files of the artifact."""
    kind: Literal["ADAPTER", "MODEL", "CHECKPOINT"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The whole of CONFIG.json."""

    run: str
    base_model: str
    """Resource name, written into the adapter; where its files lie on this machine means nothing to whoever loads that."""
    base_model_dir: Path
    train_file: Path
    validation_file: Path | None
    output_dir: Path
    sample_prompts: tuple[str, ...] | None
    """What the model is asked whenever the validation loss is measured; None = nothing."""
    method: Literal["sft", "dpo", "kto", "orpo", "cpt", "classification"]
    tuning: Literal["lora", "qlora", "full"]
    initial_weights: InitialWeights | None
    hyperparameters: Hyperparameters

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter learns, and the base weights are frozen."""
        return self.tuning != "full"


def load_config(path: Path) -> TrainConfig:
    """Read and check CONFIG.json, with smaller micro-batches when memory ran out before.

    Raises ConfigError naming the key that is unknown, missing or of the wrong type.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path.name} is not JSON: {error}") from error
    if batch_cut.read(path):
        parse_config(value)  # before its numbers are used
        value["hyperparameters"] |= batch_cut.fitting(path, value["hyperparameters"])
    return parse_config(value)


def parse_config(value: object) -> TrainConfig:
    """The same from a decoded JSON value."""
    config: TrainConfig = _parse(TrainConfig, value, "config")
    numbers = config.hyperparameters
    product = numbers.per_device_train_batch_size * numbers.gradient_accumulation_steps * numbers.num_processes
    if product != numbers.global_batch_size:
        raise ConfigError(
            f"config.hyperparameters.global_batch_size: {numbers.global_batch_size} is not per_device_train_batch_size x "
            f"gradient_accumulation_steps x num_processes = {product}"
        )
    _only_with("lora", numbers.lora, config.has_adapter, "tunings lora and qlora")
    _only_with(
        "preference", numbers.preference, config.method in _PREFERENCE_METHODS, f"methods {', '.join(_PREFERENCE_METHODS)}"
    )
    return config


def parse_as(kind: Any, value: object, path: str) -> Any:
    """A dataclass from a decoded JSON value; raises ConfigError naming the key below `path` that is unknown, missing or wrong."""
    return _parse(kind, value, path)


def _only_with(name: str, group: object, wanted: bool, owner: str) -> None:
    if (group is not None) != wanted:
        raise ConfigError(f"config.hyperparameters.{name}: belongs to {owner}, and to nothing else")


def _parse(kind: Any, value: object, path: str) -> Any:
    if is_dataclass(kind):
        return _parse_object(kind, value, path)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # `Literal[...] | None` is the latter
        return None if value is None else _parse(arguments[0], value, path)
    if origin is Literal:
        return _expect(value in arguments, value, f"one of {', '.join(arguments)}", path)
    if origin is tuple:
        items = _expect(isinstance(value, list) and bool(value), value, "a list with at least one item", path)
        return tuple(_parse(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(items))
    return _parse_scalar(kind, value, path)


def _parse_object(kind: Any, value: object, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}: expected an object, not {value!r}")
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    for name in value:
        if name not in names:
            raise ConfigError(f"{path}.{name}: unknown key")
    for name in names:
        if name not in value:
            raise ConfigError(f"{path}.{name}: missing")
    return kind(**{name: _parse(hints[name], value[name], f"{path}.{name}") for name in names})


def _parse_scalar(kind: type, value: object, path: str) -> Any:
    if kind is Path:
        return Path(_expect(isinstance(value, str) and bool(value), value, "a path", path))
    if kind is float:
        # JSON does not tell 3 from 3.0; a bool is an int to Python but not a number to a person.
        return float(_expect(isinstance(value, int | float) and not isinstance(value, bool), value, "a number", path))
    return _expect(type(value) is kind, value, f"a value of type {kind.__name__}", path)


def _expect(condition: bool, value: Any, expected: str, path: str) -> Any:
    if not condition:
        raise ConfigError(f"{path}: expected {expected}, not {value!r}")
    return value
