"""What a base model takes in memory where it is kept a second time, in packed order; used by the registry."""

import dataclasses
import math
import pathlib
import platform

from services.inference import model_files

MOST_OUTPUTS = 16_384
"""Matrices with more are never kept in fp16, see packed_weight."""
_BROKEN = "BASE_MODEL_UNUSABLE"
_NARROW = ("F16", "BF16")
_TOGETHER = 3
"""So many matrices of about one size are packed as one at most: queries, keys and values."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packing:
    """Which base models are packed: those of at most `up_to` bytes in fp32. `half` as in packed_weight.

    `has_fp16` = this processor multiplies by weights in fp16.
    """

    up_to: int = 0
    half: bool = False
    has_fp16: bool = platform.machine() in ("x86_64", "AMD64")

    def memory_bytes(self, directory: pathlib.Path) -> int:
        """Of a base model with both copies; raises ServiceError (BASE_MODEL_UNUSABLE)."""
        size = model_files.fp32_bytes(directory, broken=_BROKEN)
        if size > self.up_to:
            return size
        tensors = model_files.tensors(directory, broken=_BROKEN)
        return size + sum(math.prod(shape) * self._width(dtype, shape) for dtype, shape in tensors)

    def _width(self, dtype: str, shape: tuple[int, ...]) -> int:
        """Bytes of a number in the second copy; at most, since numbers of 32 bits may fit into 16."""
        fits = self.has_fp16 and dtype in _NARROW and _TOGETHER * (shape or (1,))[0] <= MOST_OUTPUTS
        return 2 if self.half or fits else 4
