"""The configuration DeepSpeed gets, from ours; a pure function, so that what a run did can be read from its deepspeed.json."""

import json
from collections.abc import Mapping
from typing import Any

from services.trainer.training.config import TrainConfig

_NEVER = 2**31 - 1


def deepspeed_config(config: TrainConfig) -> dict[str, Any]:
    """Batch arithmetic, ZeRO stage and clipping, and what the user laid over it. Learning rate and optimizer are not in it: both
    are ours, set every step.
    """
    numbers = config.hyperparameters
    ours = {
        "train_batch_size": numbers.global_batch_size,
        "train_micro_batch_size_per_gpu": numbers.per_device_train_batch_size,
        "gradient_accumulation_steps": numbers.gradient_accumulation_steps,
        "gradient_clipping": numbers.max_grad_norm,
        "zero_optimization": {"stage": numbers.zero_stage},
        "zero_allow_untested_optimizer": True,
        # Our optimizer works on the host as well. DeepSpeed would ask for its own there, which has to be compiled first.
        "zero_force_ds_cpu_optimizer": False,
        # No bf16 block on purpose: DeepSpeed sees the trained weights alone, which stay fp32 and so are their own master copy.
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "steps_per_print": _NEVER,
        "wall_clock_breakdown": False,
    }
    return _over(ours, json.loads(numbers.deepspeed_overrides or "{}"))


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Objects are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged
