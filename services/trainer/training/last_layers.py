"""Adapters in the last layers of a model alone: which layers those are, and how peft is told; used by `model` and `rehearsal`."""

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from services.common.errors import ServiceError
from services.trainer.training.config import Lora

_EVERYTHING = "all-linear"


def tuned_layers(config: Any, lora: Lora) -> list[int] | None:
    """Indices of the layers that get adapters, None = all; `config` is the model's, of transformers.

    Raises ServiceError INVALID_FIELD when the model has fewer.
    """
    if not lora.last_layers:
        return None
    count = config.get_text_config().num_hidden_layers
    if lora.last_layers > count:
        raise ServiceError(
            "INVALID_FIELD", f"lora.last_layers {lora.last_layers}: the model has {count} layers", hint=f"Use at most {count}."
        )
    return list(range(count - lora.last_layers, count))


def adapted_modules(base: Any, lora: Lora) -> str | list[str]:
    """What peft calls `target_modules`. `all-linear` it takes for all layers alone: for some, names are looked up in `base`."""
    if lora.target_modules != (_EVERYTHING,):
        return list(lora.target_modules)
    if not lora.last_layers:
        return _EVERYTHING
    linear = (path.split(".") for path, module in base.named_modules() if isinstance(module, nn.Linear | Conv1D))
    # Layers are numbered; what has no number above it is an output head.
    return sorted({path[-1] for path in linear if any(map(str.isdigit, path[:-1]))})
