"""The number format of the frozen weights: what was asked for, or what the device does well; used by the wiring in `__main__`."""

import logging
from dataclasses import replace
from typing import Literal

import torch

from services.common.errors import ServiceError
from services.trainer.training.config import TrainConfig

_log = logging.getLogger("tunesmith.training")
_FIRST_WITH_TENSOR_CORES = (7, 0)
"""Compute capability of Volta; before it, fp16 is slow on most GPUs."""
_BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16")
"""As torch names those that multiply bf16, of x86 and of ARM."""


def with_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """`config` with a precision: bf16 on a GPU that computes in it, fp16 on one that computes in that alone, else fp32.

    Processors that multiply bf16 twice as fast do so only when asked to, since it rounds: in fp32 a run is exact. On others bf16
    takes less memory and more time, which the log says. Raises ServiceError PRECISION_UNSUPPORTED when bf16 was asked for and the
    GPU lacks it.
    """
    numbers = config.hyperparameters
    best = _best_of_gpu(device) if device.type == "cuda" else "fp32"
    if numbers.precision == "bf16" and device.type == "cuda" and best != "bf16":
        raise ServiceError("PRECISION_UNSUPPORTED", f"{torch.cuda.get_device_name(device)} cannot compute in bf16")
    if numbers.precision == "bf16" and device.type == "cpu" and not processor_multiplies_bf16():
        _log.warning("this processor has no instructions for bf16: it takes less memory than fp32, and more time")
    return replace(config, hyperparameters=replace(numbers, precision=numbers.precision or best))


def processor_multiplies_bf16() -> bool:
    """Whether it has instructions for that, which torch then uses."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _BF16_INSTRUCTIONS)


def _best_of_gpu(device: torch.device) -> Literal["fp32", "fp16", "bf16"]:
    # torch would also count bf16 that it imitates, at a fraction of the speed.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability(device) >= _FIRST_WITH_TENSOR_CORES else "fp32"
