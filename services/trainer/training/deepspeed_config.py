"""The configuration DeepSpeed gets, from ours; a pure function, so that what a run did can be read from its deepspeed.json."""

from typing import Any

from services.trainer.training.config import TrainConfig

_NEVER = 2**31 - 1


def deepspeed_config(config: TrainConfig) -> dict[str, Any]:
    """Batch arithmetic, ZeRO stage and clipping. Learning rate and optimizer are not in it: both are ours, set every step."""
    numbers = config.hyperparameters
    return {
        "train_batch_size": numbers.global_batch_size,
        "train_micro_batch_size_per_gpu": numbers.per_device_train_batch_size,
        "gradient_accumulation_steps": numbers.gradient_accumulation_steps,
        "gradient_clipping": numbers.max_grad_norm,
        "zero_optimization": {"stage": numbers.zero_stage},
        "zero_allow_untested_optimizer": True,
        # No bf16 block on purpose: only the frozen base is bf16 then. DeepSpeed sees the trained weights alone, which stay fp32
        # and so are their own master copy.
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "steps_per_print": _NEVER,
        "wall_clock_breakdown": False,
    }
