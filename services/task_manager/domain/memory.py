"""How much main memory a run needs at its peak; used by PlanTask.

Where the trainer's lean path is taken (its package `fast` says when), far less is kept of a token, but micro-batches are merged.
The constants were measured with SmolLM2-135M in fp32 on a CPU, on each path; the tests hold the peaks.
Rows that begin alike share that part, which is left out here: the estimate is then a little high.
"""

import dataclasses
from collections.abc import Mapping

from services.task_manager.domain.model_shape import ModelShape

_BYTES: Mapping[str, int] = {"fp32": 4, "fp16": 2, "bf16": 2}
# A trained number: weight, gradient and the two moments of AdamW, all fp32.
_TRAINED_BYTES = 16
# Logits of a supervised token: themselves, their logarithms and their gradients, fp32.
_LOGITS_BYTES = 3 * 4
# Python, torch, DeepSpeed, and the pages of the weights' file that were read.
_RUNTIME_BYTES = 550_000_000
# 4 bits, and for every 64 weights a scale of 8 bits, for every 256 of those one of 32 (arXiv 2305.14314, section 3).
_FOUR_BIT_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
# What backward and the allocator add to what forward keeps.
_OVERHEAD = 1.5
_LEAN_OVERHEAD = 1.25
# Micro-batches are merged up to this; the trainer's fast/merging.py has the same number.
_MERGED_BYTES = 3 * 2**29
# Logits that the lean path has at a time.
_LEAN_LOGITS = 2**24


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryNeed:
    """What decides about the memory of one process."""

    shape: ModelShape
    parameter_count: int
    trained_parameters: int
    precision: str
    """Of weights and activations; empty counts as fp32."""
    batch_size: int
    """Rows of one forward pass, before any are merged."""
    passes: int
    """Forward passes of a step."""
    longest: int
    """Tokens of the longest row after cutting: its batch is padded to it, but on the lean path."""
    mean: float
    """Tokens of a row."""
    targets: float
    """Tokens of a row that carry loss."""
    is_lean: bool = False
    """Whether the trainer's lean path will be taken."""
    dropped_inputs: int = 0
    """Numbers of a token and layer that adapters with dropout read, counted once for each adapter; 0 = no dropout."""
    learning_layers: int = 0
    """Layers at the end of the model that a derivative is taken of; 0 = all."""
    has_four_bits: bool = False
    """Whether the weights between the two ends of the model take 4 bits."""


def peak_bytes(need: MemoryNeed, processes: int) -> int:
    """Of all processes together: each holds everything, since ZeRO up to stage 2 shares only what is small beside it."""
    width = _BYTES.get(need.precision, 4)
    weights = _weight_bytes(need, width)
    trained = need.trained_parameters * _TRAINED_BYTES
    kept = _layers(need) * ((_lean_layer if need.is_lean else _layer)(need.shape) + need.dropped_inputs) * width
    rows = _merged_rows(need, kept) if need.is_lean else need.batch_size
    # A batch on the lean path is as long as its rows together; one with the longest row among them is longer than most.
    length = (need.longest + min(need.mean, need.longest)) / 2 if need.is_lean else need.longest
    activations = rows * length * kept * (_LEAN_OVERHEAD if need.is_lean else _OVERHEAD)
    logits = rows * need.targets * need.shape.vocabulary
    if need.is_lean:
        logits = min(logits, _LEAN_LOGITS)
    logits *= _LOGITS_BYTES
    return processes * round(_RUNTIME_BYTES + weights + trained + activations + logits)


def _weight_bytes(need: MemoryNeed, width: int) -> float:
    if not need.has_four_bits:
        return need.parameter_count * width
    # The embeddings, which the output head shares or is as large as, stay what they are.
    whole = min(need.parameter_count, need.shape.vocabulary * need.shape.hidden)
    return whole * width + (need.parameter_count - whole) * _FOUR_BIT_BYTES


def _layers(need: MemoryNeed) -> int:
    """Those in memory at once: of the others one at a time."""
    return min(need.learning_layers + 1, need.shape.layers) if need.learning_layers else need.shape.layers


def _layer(shape: ModelShape) -> int:
    """Numbers that forward keeps of a token and layer for backward.

    The input and the result of two norms, queries, keys and values as attention takes them (repeated to the full width), its
    result, twice where it is laid out anew, and four times the inner width of the feed-forward part.
    """
    return 10 * shape.hidden + 2 * shape.key_value + 4 * shape.intermediate


def _lean_layer(shape: ModelShape) -> int:
    """The same on the lean path: two states, queries and what attention found, keys and values, gate and up."""
    return 4 * shape.hidden + 2 * shape.key_value + 2 * shape.intermediate


def _merged_rows(need: MemoryNeed, kept: int) -> int:
    """Rows of a forward pass: the most that divide a process' share of the step and stay below the bound."""
    share = need.batch_size * need.passes
    most = _MERGED_BYTES // max(1, need.longest * kept)
    return max((rows for rows in range(need.batch_size, min(share, most) + 1) if share % rows == 0), default=need.batch_size)
