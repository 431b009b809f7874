"""`python -m tests.bench.training.peak`: the fastest fp32 matrix product of the shapes in SmolLM2, in FLOP/s."""

import time

import torch

from services.trainer.training.speed import fastest

_SECONDS = 0.5
_SHAPES = ((1024, 576, 1536), (1024, 1536, 576), (2048, 576, 576), (1024, 576, 3072))


def main() -> None:
    """Print the best of all shapes."""
    print(max(map(_speed, _SHAPES)))


def _speed(shape: tuple[int, int, int]) -> float:
    rows, inner, columns = shape
    left, right = torch.rand(rows, inner), torch.rand(columns, inner)
    return 2 * rows * inner * columns / fastest(lambda: torch.mm(left, right.T), _SECONDS, time.perf_counter)


if __name__ == "__main__":
    main()
