"""Floating-point operations our run needs for a step, for the share of the machine's speed it reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.trainer.training.data import Tokens
from services.trainer.training.objectives.sequences import Sequences
from tests.bench.training.job import Job
from tests.bench.training.tokens import dataset, in_order


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the model."""

    body: int
    """Weights of the decoder's linear layers."""
    adapter: int
    head: int
    """Vocabulary times width."""


def flops(texts: Sequence[Tokens], prefix: int, sizes: Sizes, tuning: str) -> int:
    """Products of one step, attention left out. A product of N tokens and P weights takes 2 N P operations.

    Frozen weights are used in two products (forward, gradient of the input), trained ones in three. The head is used at target
    positions only. Tokens that are not computed (of a shared prefix; behind the last token that predicts one) do not count.
    """
    tokens = prefix + sum(text.targets[-1] - prefix for text in texts)
    targets = sum(len(text.targets) for text in texts)
    products = 4 if tuning == "lora" else 6
    return tokens * (products * sizes.body + 6 * sizes.adapter) + targets * products * sizes.head


def flops_per_step(job: Job) -> float:
    """Mean over the measured steps of a job."""
    sizes = _sizes(job)
    prefix = len(Sequences(dataset(job).common_prefix).prefix)
    steps = [flops(texts, prefix, sizes, job.tuning) for texts in in_order(job)[1:]]
    return sum(steps) / len(steps)


def _sizes(job: Job) -> Sizes:
    import torch

    from services.trainer.training.config import parse_config
    from services.trainer.training.model import load_model

    model = load_model(parse_config(job.config(Path("unused"))), (), torch.device("cpu"))
    weights = dict(model.named_parameters())
    body = sum(value.numel() for name, value in weights.items() if ".layers." in name and value.dim() == 2 and "lora" not in name)
    adapter = sum(value.numel() for name, value in weights.items() if "lora" in name)
    head = next(value.numel() for name, value in weights.items() if "embed_tokens" in name)
    return Sizes(body, adapter, head)
