"""Makes the three batch sizes agree: global = per device x accumulation x processes; used to resolve hyperparameters."""

import dataclasses

from services.common.errors import InvalidArgument, Violation

DEFAULT_GLOBAL = 16
MAX_DEFAULT_PER_DEVICE = 8
MAX_GLOBAL = 4096
MAX_PER_DEVICE = 1024
MAX_ACCUMULATION = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class BatchSizes:
    """What was asked for; None = not set."""

    global_batch_size: int | None
    per_device_train_batch_size: int | None
    gradient_accumulation_steps: int | None
    num_processes: int


@dataclasses.dataclass(frozen=True, slots=True)
class ResolvedBatchSizes:
    """Three numbers that agree."""

    global_batch_size: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int


def resolve(asked: BatchSizes, path: str) -> ResolvedBatchSizes:
    """Fills in what is missing; raises InvalidArgument naming every field of a contradiction, below `path`."""
    share = _share(asked, path)
    per_device, accumulation = asked.per_device_train_batch_size, asked.gradient_accumulation_steps
    if per_device is None and accumulation is None:
        per_device = _largest_divisor(share, MAX_DEFAULT_PER_DEVICE)
    if per_device is None:
        assert accumulation is not None
        per_device = share // accumulation
    if accumulation is None:
        accumulation = share // per_device
    found = ResolvedBatchSizes(per_device * accumulation * asked.num_processes, per_device, accumulation)
    if per_device * accumulation != share or not _within_limits(found):
        raise _contradiction(asked, path)
    return found


def _share(asked: BatchSizes, path: str) -> int:
    """Examples per optimizer step of one process."""
    per_device, accumulation, processes = (
        asked.per_device_train_batch_size,
        asked.gradient_accumulation_steps,
        asked.num_processes,
    )
    if asked.global_batch_size is not None:
        if asked.global_batch_size % processes:
            raise _contradiction(asked, path)
        return asked.global_batch_size // processes
    if per_device is not None and accumulation is not None:
        return per_device * accumulation
    # The default of 16 is nobody's wish, so it gives way to what was asked for.
    default = max(1, DEFAULT_GLOBAL // processes)
    if per_device is not None:
        return per_device * max(1, default // per_device)
    if accumulation is not None:
        return accumulation * min(MAX_DEFAULT_PER_DEVICE, max(1, default // accumulation))
    return default


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)


def _within_limits(sizes: ResolvedBatchSizes) -> bool:
    return (
        1 <= sizes.global_batch_size <= MAX_GLOBAL
        and 1 <= sizes.per_device_train_batch_size <= MAX_PER_DEVICE
        and 1 <= sizes.gradient_accumulation_steps <= MAX_ACCUMULATION
    )


def _contradiction(asked: BatchSizes, path: str) -> InvalidArgument:
    text = (
        f"global_batch_size ({_shown(asked.global_batch_size)}) must equal per_device_train_batch_size"
        f" ({_shown(asked.per_device_train_batch_size)}) x gradient_accumulation_steps"
        f" ({_shown(asked.gradient_accumulation_steps)}) x num_processes ({asked.num_processes}),"
        f" with at most {MAX_GLOBAL}, {MAX_PER_DEVICE} and {MAX_ACCUMULATION}; leave one unset to have it worked out"
    )
    fields = ("global_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps")
    return InvalidArgument(*(Violation(f"{path}.{field}", text) for field in fields))


def _shown(value: int | None) -> str:
    return "unset" if value is None else str(value)
