"""Which keys of DeepSpeed's configuration an expert may set, as data, and the check; used when a task is validated."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from services.common.errors import Violation

MAX_CHARACTERS = 10_000

_ZERO, _ZERO_3 = range(1, 4), range(3, 4)
_ANY = range(4)
_FLAG, _COUNT, _FACTOR = "true or false", "a whole number, at least 1", "a number above 0"
_DEVICE, _FORMAT = "none or cpu", "fp32, fp16 or bf16"

_PERMITTED: Mapping[str, tuple[str, range]] = {
    "communication_data_type": (_FORMAT, _ANY),
    "gradient_predivide_factor": (_FACTOR, _ANY),
    "prescale_gradients": (_FLAG, _ANY),
    "memory_breakdown": (_FLAG, _ANY),
    "steps_per_print": (_COUNT, _ANY),
    "wall_clock_breakdown": (_FLAG, _ANY),
    "zero_optimization.allgather_bucket_size": (_COUNT, _ZERO),
    "zero_optimization.allgather_partitions": (_FLAG, _ZERO),
    "zero_optimization.contiguous_gradients": (_FLAG, _ZERO),
    "zero_optimization.offload_optimizer.device": (_DEVICE, _ZERO),
    "zero_optimization.offload_optimizer.pin_memory": (_FLAG, _ZERO),
    "zero_optimization.offload_param.device": (_DEVICE, _ZERO_3),
    "zero_optimization.offload_param.pin_memory": (_FLAG, _ZERO_3),
    "zero_optimization.overlap_comm": (_FLAG, _ZERO),
    "zero_optimization.reduce_bucket_size": (_COUNT, _ZERO),
    "zero_optimization.reduce_scatter": (_FLAG, _ZERO),
    "zero_optimization.round_robin_gradients": (_FLAG, _ZERO),
    "zero_optimization.stage3_max_live_parameters": (_COUNT, _ZERO_3),
    "zero_optimization.stage3_max_reuse_distance": (_COUNT, _ZERO_3),
    "zero_optimization.stage3_param_persistence_threshold": (_COUNT, _ZERO_3),
    "zero_optimization.stage3_prefetch_bucket_size": (_COUNT, _ZERO_3),
    "zero_optimization.sub_group_size": (_COUNT, _ZERO_3),
}
"""By path: the values it takes, and the ZeRO stages it means something to."""

_OURS: Mapping[str, str] = {
    "train_batch_size": "global_batch_size",
    "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "optimizer": "learning_rate and weight_decay",
    "scheduler": "lr_scheduler_type",
    "bf16": "precision",
    "fp16": "precision",
    "zero_optimization.stage": "zero_stage",
}
"""What another field says; two voices could contradict each other."""


def violations(text: str, zero_stage: int, field: str) -> Iterator[Violation]:
    """Everything that is wrong with the overrides of a run with this ZeRO stage."""
    if len(text) > MAX_CHARACTERS:
        yield Violation(field, f"has {len(text)} characters; at most {MAX_CHARACTERS} are permitted")
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield Violation(field, f"is not JSON: {error}")
        return
    if not isinstance(value, dict):
        yield Violation(field, "is not a JSON object")
        return
    for path, leaf in _leaves(value, ""):
        if refusal := _refusal(path, leaf, zero_stage):
            yield Violation(field, f"{path[:200]}: {refusal}")


def _leaves(value: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    """Objects that another field owns as a whole count as leaves."""
    for key, item in value.items():
        path = f"{above}.{key}" if above else key
        if isinstance(item, dict) and item and path not in _OURS:
            yield from _leaves(item, path)
        else:
            yield path, item


def _refusal(path: str, value: object, zero_stage: int) -> str:
    if path in _OURS:
        return f"is what {_OURS[path]} says; set that instead"
    if path not in _PERMITTED:
        return f"is not a key that may be set; those are {', '.join(_PERMITTED)}"
    kind, stages = _PERMITTED[path]
    if zero_stage not in stages:
        return f"means nothing with zero_stage {zero_stage}; it needs {' or '.join(map(str, stages))}"
    return "" if _is_of(kind, value) else f"{json.dumps(value)[:80]} is not {kind}"


def _is_of(kind: str, value: object) -> bool:
    if kind == _FLAG:
        return isinstance(value, bool)
    if kind == _COUNT:
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**53
    if kind == _FACTOR:
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    return isinstance(value, str) and value in kind.replace(", ", " or ").split(" or ")
