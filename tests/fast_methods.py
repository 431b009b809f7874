"""Every training method on a few rows, for the tests of the fast path."""

import torch
from training_configs import numbers
from training_examples import example, pair
from transformers import LlamaConfig, LlamaForSequenceClassification

from services.trainer.training.data import Dataset
from services.trainer.training.model import add_adapter
from services.trainer.training.objectives.registry import OBJECTIVES

PREFIX = tuple(range(60, 72))
CHATS = [
    example([*PREFIX, *range(seed, seed + length)], range(12 + length - answer, 12 + length))
    for seed, (length, answer) in enumerate([(5, 2), (17, 1), (9, 8), (43, 3), (6, 5)])
]
# Weights 0 and 1: targets with gaps between them.
GAPS = [example([*PREFIX, *range(seed, seed + 20)], [15, 16, 22, 29]) for seed in range(3)]
PAIRS = [
    pair([*PREFIX, 1, 2, 3], [4, 5, 6], [7, 8]),
    pair([*PREFIX, 9], [10, 11], [12, 13, 14, 15]),
    pair([*PREFIX, 5, 6], range(20, 55), [1]),
]
LABELED = [
    example([*PREFIX, *range(seed, seed + length)], label=label)
    for seed, (length, label) in enumerate([(5, "a"), (40, "b"), (9, "a")])
]
METHODS = {
    "sft": ("sft", CHATS),
    "sft-gaps": ("sft", GAPS),
    "cpt": ("cpt", [example(range(length), range(1, length)) for length in (5, 40, 33)]),
    "dpo": ("dpo", PAIRS),
    "kto": ("kto", PAIRS),
    "orpo": ("orpo", PAIRS),
    "classification": ("classification", LABELED),
}


def classifier():
    """Two labels, an adapter in it."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, vocab_size=96, num_labels=2
    )
    return add_adapter(LlamaForSequenceClassification(shape), numbers().lora, "SEQ_CLS")


def sums(policy, method, examples):
    """Of the method's loss, and what it counts beside."""
    objective = OBJECTIVES[method](Dataset(tuple(examples)), numbers(paths={"method": method}))
    arranged = objective.arrange(Dataset(tuple(examples))).examples
    batch, baseline = objective.collate(arranged, torch.device("cpu")), None
    if objective.has_baseline:
        with torch.no_grad():
            baseline = objective.baseline(policy, batch)
    return objective.loss(policy, batch, baseline)
