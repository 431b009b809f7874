"""How much main memory a run needs at its peak; used by PlanTask.

The constants were measured on 2026-11-24 with SmolLM2-135M (30 layers, 576 wide) in fp32 on a CPU, peaks of the resident set:

    batch 2, rows of  80 tokens, rank  16: 1.41 GB     batch 4, rows of 188 tokens, rank 16: 2.56 GB
    batch 8, rows of  80 tokens, rank  16: 2.27 GB     batch 4, rows of 486 tokens, rank 16: 5.47 GB
    batch 8, rows of  80 tokens, rank 128: 2.74 GB

Rows that begin alike share that part, which is left out here: the estimate is then a little high.
"""

import dataclasses
from collections.abc import Mapping

from services.task_manager.domain.model_shape import ModelShape

_BYTES: Mapping[str, int] = {"fp32": 4, "bf16": 2}
# A trained number: weight, gradient and the two moments of AdamW, all fp32.
_TRAINED_BYTES = 16
# Logits of a supervised token: themselves, their logarithms and their gradients, fp32.
_LOGITS_BYTES = 3 * 4
# Python, torch, DeepSpeed, and the pages of the weights' file that were read.
_RUNTIME_BYTES = 550_000_000
# What backward and the allocator add to what forward keeps.
_OVERHEAD = 1.5


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What decides about the memory of one process."""

    shape: ModelShape
    parameter_count: int
    trained_parameters: int
    precision: str
    """Of weights and activations; empty counts as fp32."""
    batch_size: int
    """Rows of one forward pass."""
    longest: int
    """Tokens of the longest row after cutting: its batch is padded to it."""
    targets: float
    """Tokens of a row that carry loss."""


def peak_bytes(need: MemoryNeed, processes: int) -> int:
    """Of all processes together: each holds everything, since ZeRO up to stage 2 shares only what is small beside it."""
    width = _BYTES.get(need.precision, 4)
    weights = need.parameter_count * width
    trained = need.trained_parameters * _TRAINED_BYTES
    activations = need.batch_size * need.longest * _kept_per_token(need.shape) * width * _OVERHEAD
    logits = need.batch_size * need.targets * need.shape.vocabulary * _LOGITS_BYTES
    return processes * round(_RUNTIME_BYTES + weights + trained + activations + logits)


def _kept_per_token(shape: ModelShape) -> int:
    """Numbers that forward keeps of a token for backward.

    A layer keeps the input and the result of two norms, queries, keys and values as attention takes them (repeated to the full
    width), its result, twice where it is laid out anew, and four times the inner width of the feed-forward part.
    """
    return shape.layers * (10 * shape.hidden + 2 * shape.key_value + 4 * shape.intermediate)
