"""The number format of the frozen weights: what was asked for, or what the device does well; used by the wiring in `__main__`."""

from dataclasses import replace

import torch

from services.common.errors import ServiceError
from services.trainer.training.config import TrainConfig


def with_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """`config` with a precision: bf16 on a GPU that computes in it, else fp32 (processors convert bf16 at a loss).

    Raises ServiceError PRECISION_UNSUPPORTED when bf16 was asked for and the GPU lacks it.
    """
    numbers = config.hyperparameters
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if numbers.precision == "bf16" and device.type == "cuda" and not has_bf16:
        raise ServiceError("PRECISION_UNSUPPORTED", f"{torch.cuda.get_device_name(device)} cannot compute in bf16")
    precision = numbers.precision or ("bf16" if has_bf16 else "fp32")
    return replace(config, hyperparameters=replace(numbers, precision=precision))
