"""`python -m tests.bench.training.peak [fp32|bf16]`: the fastest matrix product of the shapes in SmolLM2, in FLOP/s."""

import sys
import time

import torch

from services.trainer.training.speed import fastest

_SECONDS = 0.5
_SHAPES = ((1024, 576, 1536), (1024, 1536, 576), (2048, 576, 576), (1024, 576, 3072))


def main() -> None:
    """Print the best of all shapes."""
    dtype = torch.bfloat16 if sys.argv[1:] == ["bf16"] else torch.float32
    print(max(_speed(shape, dtype) for shape in _SHAPES))


def _speed(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
    rows, inner, columns = shape
    left, right = torch.rand(rows, inner).to(dtype), torch.rand(columns, inner).to(dtype)
    return 2 * rows * inner * columns / fastest(lambda: torch.mm(left, right.T), _SECONDS, time.perf_counter)


if __name__ == "__main__":
    main()
