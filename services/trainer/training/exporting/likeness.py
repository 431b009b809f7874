"""Whether two models are the same to whoever uses them: their logits on prompts that no training has seen; used by the export."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from services.common.errors import ServiceError
from services.common.rendering.files import read_tokenizer

_PROMPTS = (
    "The harbour lay still in the grey of the morning, and nobody had seen the boat leave.",
    "Question: What is 17 times 23?\nAnswer:",
    '{"name": "Ada", "born": 1815, "fields": ["mathematics", "computing"]}',
    "def mean(values):\n    return sum(values) / len(values)\n",
    "Translate to French: Where is the railway station?",
    "Liebe Kolleginnen und Kollegen, der Termin am Donnerstag f\u00e4llt aus.",
    "1. Boil the water. 2. Add the salt. 3. Wait for eleven minutes. 4.",
    "I would like to return the shoes I ordered last week; the size is wrong.",
)
_FEWEST_TOKENS = 2
_NOISE = 1e-4
"""A share that different orders of the same sums explain."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How far two models are apart."""

    largest: float
    """Largest difference between two logits."""
    share: float
    """Root of the mean squared difference, as a share of the spread of the logits (their standard deviation)."""
    agreement: float
    """Share of the positions at which both find the same token the most likely."""
    positions: int

    def numbers(self) -> dict[str, float]:
        """As metrics of the artifact."""
        return {
            "export_max_logit_difference": self.largest,
            "export_logit_difference_share": self.share,
            "export_greedy_agreement": self.agreement,
            "export_positions": float(self.positions),
        }

    def require(self, bound: float) -> None:
        """Raises ServiceError EXPORT_UNFAITHFUL when the difference is above `bound`, a share of the spread; also for NaN."""
        if not self.share <= bound:
            raise ServiceError(
                "EXPORT_UNFAITHFUL",
                f"the logits of what was written differ from the original's by {self.share:.2%} of their spread, at most"
                f" {bound:.2%} is permitted; the largest difference is {self.largest:.3g}",
                metadata={"logit_difference_share": f"{self.share:.6g}", "bound": f"{bound:g}"},
            )


def permitted(rounding: float, effect: float | None) -> float:
    """The bound: what rounding explains, and at most half of what the adapter itself does, None = not known.

    A merge that loses a weak adapter differs by that adapter's whole effect.
    """
    return rounding if effect is None else max(_NOISE, min(rounding, effect / 2))


def prompts(directory: Path, vocabulary: int) -> list[Tensor]:
    """The token ids of the prompts, each of shape [1, tokens], by the tokenizer of a model's directory.

    Raises ServiceError EXPORT_UNSUPPORTED when it does not know their letters.
    """
    tokenizer = read_tokenizer(directory)
    encoded = (tokenizer.encode(text).ids for text in _PROMPTS)
    found = [torch.tensor([ids]) for ids in encoded if len(ids) >= _FEWEST_TOKENS and max(ids) < vocabulary]
    if not found:
        raise ServiceError("EXPORT_UNSUPPORTED", "the model's tokenizer makes no tokens of the prompts that the check needs")
    return found


def logits(model: Any, token_ids: Sequence[Tensor], alive: Callable[[], None]) -> list[Tensor]:
    """Of every position of every prompt, fp32, each of shape [tokens, vocabulary]; `alive` is called after each."""
    found = []
    with torch.inference_mode():
        for ids in token_ids:
            found.append(model(input_ids=ids, use_cache=False).logits[0].float().clone())
            alive()
    return found


def likeness(one: Sequence[Tensor], other: Sequence[Tensor]) -> Likeness:
    """Of the logits of two models on the same prompts."""
    first, second = torch.cat(list(one)), torch.cat(list(other))
    apart = first - second
    share = float(apart.square().mean().sqrt()) / max(float(first.std()), 1e-9)
    same = (first.argmax(-1) == second.argmax(-1)).float().mean()
    return Likeness(float(apart.abs().max()), share, float(same), len(first))
