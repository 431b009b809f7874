"""Which example is seen when and by which rank: a pure function of (seed, epoch, ranks); no torch, no files."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.trainer.training.config import Hyperparameters
from services.trainer.training.schedule import steps_per_epoch, total_steps

MicroBatch = tuple[int, ...]
"""Positions of examples in the training data; empty = this rank has nothing to do but must keep in step with the others."""


@dataclass(frozen=True, slots=True)
class Window:
    """One optimizer step: what all ranks together learn from before the weights move once."""

    step: int
    """Optimizer step, from 1."""
    epoch: float
    """Passes over the data completed after this step."""
    micro_batches: tuple[tuple[MicroBatch, ...], ...]
    """By rank, `gradient_accumulation_steps` each."""

    @property
    def examples(self) -> tuple[int, ...]:
        """Every example of the window, over all ranks."""
        return tuple(index for rank in self.micro_batches for micro_batch in rank for index in micro_batch)


def windows(lengths: Sequence[int], numbers: Hyperparameters) -> Iterator[Window]:
    """Every window of the run in order; `lengths` are tokens per example. Computed alike by every rank."""
    per_epoch = steps_per_epoch(len(lengths), numbers.global_batch_size)
    for step in range(1, total_steps(numbers, len(lengths)) + 1):
        epoch, position = divmod(step - 1, per_epoch)
        if position == 0:
            order = epoch_order(len(lengths), numbers.seed, epoch)
        batch = order[position * numbers.global_batch_size : (position + 1) * numbers.global_batch_size]
        yield Window(step, step / per_epoch, share(batch, lengths, numbers))


def epoch_order(example_count: int, seed: int, epoch: int) -> list[int]:
    """The permutation of pass `epoch` (from 0)."""
    order = list(range(example_count))
    # Seeded by text: two seeds, two epochs or (1, 12) and (11, 2) never share an order, on any machine.
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 (data order is no secret)
    return order


def share(batch: Sequence[int], lengths: Sequence[int], numbers: Hyperparameters) -> tuple[tuple[MicroBatch, ...], ...]:
    """Cut one global batch into micro-batches and deal them to the ranks.

    Neighbours in length go together, so little is padding, and micro-batches that run at the same time on different ranks are
    about equally long, so no rank waits. A partial batch is dealt evenly; a rank may get empty micro-batches.
    """
    ranks, capacity = numbers.num_processes, numbers.per_device_train_batch_size
    ordered = sorted(batch, key=lambda index: (lengths[index], index))
    rounds = -(-len(ordered) // (ranks * capacity))
    pieces = _cut(ordered, rounds * ranks)
    empty: MicroBatch = ()
    return tuple(tuple(pieces[rank::ranks]) + (empty,) * (numbers.gradient_accumulation_steps - rounds) for rank in range(ranks))


def evaluation_share(lengths: Sequence[int], numbers: Hyperparameters) -> tuple[tuple[MicroBatch, ...], ...]:
    """Every example once, by length, in micro-batches of the training's size; by rank, equally many for each."""
    capacity, ranks = numbers.per_device_train_batch_size, numbers.num_processes
    ordered = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    pieces = [tuple(ordered[start : start + capacity]) for start in range(0, len(ordered), capacity)]
    # Under ZeRO 3 a forward pass needs all ranks.
    pieces += [()] * (-len(pieces) % ranks)
    return tuple(tuple(pieces[rank::ranks]) for rank in range(ranks))


def _cut(ordered: Sequence[int], count: int) -> list[MicroBatch]:
    """`count` consecutive pieces whose sizes differ by at most one."""
    bounds = [len(ordered) * piece // count for piece in range(count + 1)]
    return [tuple(ordered[start:end]) for start, end in pairwise(bounds)]
