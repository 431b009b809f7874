"""Puts changed numbers over those of a task, and drops what the change makes meaningless; used when a task is tried again."""

from typing import Any

from tunesmith.v1 import task_spec_pb2

# What is asked for now goes before what was asked for then, where both say the same thing in another way.
_RIVALS = (("num_train_epochs", "max_steps"), ("max_steps", "num_train_epochs"), ("warmup_ratio", "warmup_steps"))
_CUTS = ("per_device_train_batch_size", "gradient_accumulation_steps")


def merged(given: Any, changes: Any, effective: Any) -> task_spec_pb2.Hyperparameters:
    """`given` with `changes` over it, all three Hyperparameters messages.

    A window that is cut in another way stays as large as it is in `effective`, unless its size changes, too.
    """
    result: Any = task_spec_pb2.Hyperparameters()
    result.CopyFrom(given)
    for name, rival in _RIVALS:
        if changes.HasField(name) and not changes.HasField(rival):
            result.ClearField(rival)
    if any(changes.HasField(name) for name in (*_CUTS, "num_processes", "global_batch_size")):
        for name in _CUTS:
            result.ClearField(name)
        result.global_batch_size = effective.global_batch_size
    if changes.lora.target_modules:
        result.lora.ClearField("target_modules")
    result.MergeFrom(changes)
    return task_spec_pb2.Hyperparameters.FromString(result.SerializeToString())
