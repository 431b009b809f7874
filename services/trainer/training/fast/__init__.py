"""A lean forward and backward pass for Llama and Qwen2 on a CPU, exact in fp32; `fits` says when it may replace the stock one."""

import logging
from typing import Any

from services.trainer.training.config import TrainConfig
from services.trainer.training.fast.decoder import FastDecoder
from services.trainer.training.fast.fits import fits
from services.trainer.training.fast.merging import merged

__all__ = ["FastDecoder", "fast_decoder", "fits", "merged"]

_log = logging.getLogger("tunesmith.training")


def fast_decoder(model: Any, config: TrainConfig) -> FastDecoder | None:
    """What computes hidden states with the weights of `model`; None = the model has to, and the log says why."""
    if reason := fits(model, config):
        _log.info("the fast path is not taken: %s", reason)
        return None
    _log.info("the fast path is taken")
    return FastDecoder(model.get_decoder())
