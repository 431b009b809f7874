"""The number format of the frozen weights: what was asked for, or what the device does well; used by the wiring in `__main__`."""

from dataclasses import replace
from typing import Literal

import torch

from services.common.errors import ServiceError
from services.trainer.training.config import TrainConfig

_FIRST_WITH_TENSOR_CORES = (7, 0)
"""Compute capability of Volta; before it, fp16 is slow on most GPUs."""


def with_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """`config` with a precision: bf16 on a GPU that computes in it, fp16 on one that computes in that alone, else fp32, since
    processors convert both at a loss.

    Raises ServiceError PRECISION_UNSUPPORTED when bf16 was asked for and the GPU lacks it.
    """
    numbers = config.hyperparameters
    best = _best_of_gpu(device) if device.type == "cuda" else "fp32"
    if numbers.precision == "bf16" and device.type == "cuda" and best != "bf16":
        raise ServiceError("PRECISION_UNSUPPORTED", f"{torch.cuda.get_device_name(device)} cannot compute in bf16")
    return replace(config, hyperparameters=replace(numbers, precision=numbers.precision or best))


def _best_of_gpu(device: torch.device) -> Literal["fp32", "fp16", "bf16"]:
    # torch would also count bf16 that it imitates, at a fraction of the speed.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability(device) >= _FIRST_WITH_TENSOR_CORES else "fp32"
