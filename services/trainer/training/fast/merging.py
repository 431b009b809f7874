"""Micro-batches put together as far as memory allows: one large product is faster than several small ones, and a prefix that all
rows share is computed once for all of them. The loss is a sum over the whole window, so no cut of it changes anything.
"""

from collections.abc import Sequence
from dataclasses import replace

from services.trainer.training.config import Hyperparameters

ACTIVATION_BYTES = 3 * 2**29
"""What the activations of one micro-batch may take, were all its rows as long as the longest."""


def merged(numbers: Hyperparameters, lengths: Sequence[int], bytes_per_token: int) -> Hyperparameters:
    """`numbers` with the largest micro-batches that divide a rank's share of the window and stay below ACTIVATION_BYTES.

    Micro-batches never get smaller than asked for. `lengths` are tokens of each training example.
    """
    share = numbers.per_device_train_batch_size * numbers.gradient_accumulation_steps
    most = ACTIVATION_BYTES // (max(lengths) * bytes_per_token)
    sizes = [size for size in range(numbers.per_device_train_batch_size, share + 1) if share % size == 0 and size <= most]
    size = max(sizes, default=numbers.per_device_train_batch_size)
    return replace(numbers, per_device_train_batch_size=size, gradient_accumulation_steps=share // size)
