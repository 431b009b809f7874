"""Odds-ratio preference optimisation: the objective `orpo` (Hong et al., 2403.07691); needs no reference.

As in the authors' code, the cross-entropy is over all tokens of the preferred conversation, those of the prompt included.
"""

from array import array
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from services.trainer.training.config import Preference
from services.trainer.training.data import Example, Tokens
from services.trainer.training.objectives.pairs import REWARD_METRICS, reward_sums
from services.trainer.training.objectives.plain import PlainObjective
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.sequences import SequenceBatch, Sequences, target_scores

_LEAST_LOG_PROB = -1e-7
"""An answer that is certain has infinite odds; this is as sure as fp32 can tell from certain."""


class OddsRatio(PlainObjective):
    """One part by tokens of the preferred conversations, one by pairs. Rewards: beta x mean log-probability of an answer."""

    metrics = REWARD_METRICS

    def __init__(self, preference: Preference) -> None:
        # Every token of a preferred conversation is a target, so there is no prefix to share.
        self._sequences = Sequences(array("i"))
        self._beta = preference.beta

    def units(self, example: Example) -> tuple[int, ...]:
        """A pair, and the tokens that are predicted from others."""
        return (1, len(example.texts[0].ids) - 1)

    def collate(self, examples: Sequence[Example], device: torch.device) -> tuple[SequenceBatch, Tensor]:
        """Preferred conversations first, all their tokens targets; and which targets [N] belong to an answer."""
        chosen, rejected = [example.texts[0] for example in examples], [example.texts[1] for example in examples]
        whole = [replace(text, targets=array("i", range(1, len(text.ids)))) for text in chosen]
        batch = self._sequences.collate([*whole, *rejected], device)
        return batch, torch.tensor([answer for text in chosen for answer in _in_answer(text)], device=device, dtype=torch.bool)

    def loss(self, policy: Policy, batch: tuple[SequenceBatch, Tensor], baseline: Tensor | None) -> Tensor:
        """[odds-ratio loss, cross-entropy, rewards]."""
        sequences, in_answer = batch
        likelihood, _ = target_scores(policy, sequences)
        in_chosen = len(in_answer)
        counts = torch.cat([in_answer, in_answer.new_ones(len(likelihood) - in_chosen)]).to(likelihood.dtype)
        means = sequences.per_sequence(likelihood * counts) / sequences.per_sequence(counts)
        chosen, rejected = means.reshape(2, -1)
        log_odds_ratio = _log_odds(chosen) - _log_odds(rejected)
        parts = [-self._beta * logsigmoid(log_odds_ratio).sum(), -likelihood[:in_chosen].sum()]
        return torch.stack([*parts, *reward_sums(self._beta * chosen, self._beta * rejected)])


def _in_answer(text: Tokens) -> list[bool]:
    answer = set(text.targets)
    return [position in answer for position in range(1, len(text.ids))]


def _log_odds(log_prob: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(log_prob) < 1."""
    log_prob = log_prob.clamp(max=_LEAST_LOG_PROB)
    return log_prob - torch.log(-torch.expm1(log_prob))
