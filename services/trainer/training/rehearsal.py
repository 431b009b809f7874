"""The longest micro-batch runs before the first step, so that a lack of memory shows at once; used by `__main__`.

A rehearsal takes as long as a step of that batch and changes nothing, chance included.
"""

import logging
from collections.abc import Sequence
from typing import Any

from services.common import memory
from services.trainer.training.batches import MicroBatch, epoch_order, share
from services.trainer.training.config import Hyperparameters
from services.trainer.training.data import Dataset
from services.trainer.training.diagnosis.memory import Shape, working_bytes
from services.trainer.training.engine import Engine
from services.trainer.training.schedule import total_steps

_log = logging.getLogger("tunesmith.training")

_CUTS_WEIGHTS = 3
_TIGHT = 0.6
"""Share of the memory that is left from which on an estimate is no reassurance."""


def rehearse(engine: Engine, training: Dataset, numbers: Hyperparameters, model: Any) -> bool:
    """Whether there was one; `model` is a configuration of transformers."""
    longest = longest_round(training.lengths, numbers)
    shape = Shape.of(model, numbers.lora.last_layers if numbers.lora else 0)
    pays = _pays(numbers, shape, training, longest[engine.rank], engine.device_type)
    # Memory differs between ranks, and some objectives make them talk: all rehearse or none.
    if not any(wanted for (wanted,) in engine.exchange([pays])):
        return False
    engine.rehearse(training.take(longest[engine.rank]))
    _log.info("rehearsed the batch with the longest row, %s tokens", f"{max(training.lengths):,}")
    return True


def longest_round(lengths: Sequence[int], numbers: Hyperparameters) -> tuple[MicroBatch, ...]:
    """By rank, the micro-batches that run together with the longest row of the first pass."""
    order = epoch_order(len(lengths), numbers.seed, 0)[: total_steps(numbers, len(lengths)) * numbers.global_batch_size]
    longest = max(order, key=lambda index: lengths[index])
    start = order.index(longest) // numbers.global_batch_size * numbers.global_batch_size
    ranks = share(order[start : start + numbers.global_batch_size], lengths, numbers)
    return next(together for together in zip(*ranks, strict=True) if any(longest in batch for batch in together))


def _pays(numbers: Hyperparameters, shape: Shape, training: Dataset, micro_batch: MicroBatch, device: str) -> bool:
    # Under ZeRO 3 a rank has no whole weight to take a gradient of outside of DeepSpeed's own backward pass.
    if numbers.rehearsal == "never" or numbers.zero_stage == _CUTS_WEIGHTS:
        return False
    if numbers.rehearsal == "always" or device != "cpu":
        return True
    examples = training.take(micro_batch)
    rows = sum(len(example.texts) for example in examples)
    longest = max((len(text.ids) for example in examples for text in example.texts), default=0)
    targets = sum(example.target_count for example in examples)
    return working_bytes(shape, rows * longest, targets) > _TIGHT * memory.read().available / numbers.num_processes
