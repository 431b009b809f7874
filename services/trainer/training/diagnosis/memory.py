"""How much memory a micro-batch takes and how much there is; a cheap estimate, used to decide whether a rehearsal pays."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_BYTES = 4
# What backward and the allocator add to what forward keeps; measured for the plan of a task.
_OVERHEAD = 1.5
# Logits of a supervised token: themselves, their logarithms and their gradients.
_LOGITS = 3
_MEMINFO = Path("/proc/meminfo")
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a decoder."""

    layers: int
    hidden: int
    key_value: int
    intermediate: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Self:
        """From a configuration of transformers."""
        heads = getattr(config, "num_attention_heads", 1)
        key_value_heads = getattr(config, "num_key_value_heads", heads)
        intermediate = getattr(config, "intermediate_size", 4 * config.hidden_size)
        key_value = config.hidden_size * key_value_heads // heads
        return cls(config.num_hidden_layers, config.hidden_size, key_value, intermediate, config.vocab_size)


def working_bytes(shape: Shape, tokens: int, targets: int) -> int:
    """What forward and backward of a micro-batch need beside the weights; `tokens` with padding, in fp32.

    A layer keeps ten times its width, keys and values twice, and the inner width of the feed-forward part four times.
    """
    kept = shape.layers * (10 * shape.hidden + 2 * shape.key_value + 4 * shape.intermediate)
    return round(_BYTES * (tokens * kept * _OVERHEAD + targets * shape.vocabulary * _LOGITS))


def available_bytes() -> int:
    """Main memory that may still be taken: the machine's or the control group's, whichever is less."""
    lines = _MEMINFO.read_text().splitlines()
    machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    return min(machine, *_left_in_groups(), machine)


def _left_in_groups() -> Iterator[int]:
    for limit, usage in _LIMITS:
        # `max` is no number, and there is one of the two kinds at most.
        with contextlib.suppress(OSError, ValueError):
            yield int(Path(limit).read_text()) - int(Path(usage).read_text())
