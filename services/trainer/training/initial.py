"""Puts the weights of an earlier task into a fresh model: only weights, everything else begins anew; used by the wiring."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from services.common.errors import ServiceError
from services.trainer.checkpoint_files import SHARED
from services.trainer.training.config import InitialWeights, TrainConfig

_ADAPTER = "adapter_model.safetensors"
# Checkpoints name weights as the module that holds model and objective does.
_PREFIX = "weight/model."


def with_initial_model(config: TrainConfig) -> TrainConfig:
    """The configuration by which the model is loaded: a whole earlier model takes the place of the base model's weights."""
    initial = config.initial_weights
    if initial is None or initial.kind != "MODEL":
        return config
    return dataclasses.replace(config, base_model_dir=initial.directory)


def load_initial(model: Any, initial: InitialWeights) -> None:
    """Copies the weights into the trained parameters of `model`, before an engine has it. A whole model is there already.

    Raises ServiceError INITIAL_WEIGHTS_UNFIT when they are of another shape or cannot be read.
    """
    if initial.kind == "ADAPTER":
        _load_adapter(model, _tensors(initial.directory / _ADAPTER))
    elif initial.kind == "CHECKPOINT":
        tensors = _tensors(initial.directory / SHARED).items()
        _load_trained(model, {name.removeprefix(_PREFIX): value for name, value in tensors if name.startswith(_PREFIX)})


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise _unfit(f"{path.name} cannot be read: {error}") from error


def _load_adapter(model: PeftModel, tensors: dict[str, Tensor]) -> None:
    before = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    try:
        outcome = set_peft_model_state_dict(model, tensors)
    except (RuntimeError, KeyError, ValueError) as error:
        raise _unfit(f"the adapter has other shapes: {error}") from error
    if wrong := [*outcome.unexpected_keys, *(before & set(outcome.missing_keys))]:
        raise _unfit(f"the adapter has other modules, for example {sorted(wrong)[0]}")


def _load_trained(model: Any, tensors: Mapping[str, Tensor]) -> None:
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name in sorted(trained.keys() ^ tensors.keys()):
        raise _unfit(f"{name} is not among the trained weights of both tasks")
    with torch.no_grad():
        for name, parameter in trained.items():
            if parameter.shape != tensors[name].shape:
                raise _unfit(f"{name} has the shape {list(tensors[name].shape)}, and {list(parameter.shape)} here")
            parameter.copy_(tensors[name])


def _unfit(cause: str) -> ServiceError:
    return ServiceError("INITIAL_WEIGHTS_UNFIT", f"the task cannot start from these weights: {cause}")
