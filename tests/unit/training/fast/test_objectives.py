"""Every training method gives the same sums and gradients on the fast path as on the stock one."""

import pytest
import torch
from fast_models import adapted, assert_equal, double, gradients, network
from training_configs import numbers
from training_examples import example, pair
from transformers import LlamaConfig, LlamaForSequenceClassification

from services.trainer.training.data import Dataset
from services.trainer.training.fast import FastDecoder
from services.trainer.training.model import add_adapter
from services.trainer.training.objectives.policy import Policy
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
    torch.manual_seed(0)
    shape = LlamaConfig(
        hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, vocab_size=96, num_labels=2
    )
    return add_adapter(LlamaForSequenceClassification(shape), numbers().lora, "SEQ_CLS")


def sums(policy, method, examples):
    objective = OBJECTIVES[method](Dataset(tuple(examples)), numbers(paths={"method": method}))
    arranged = objective.arrange(Dataset(tuple(examples))).examples
    batch, baseline = objective.collate(arranged, torch.device("cpu")), None
    if objective.has_baseline:
        with torch.no_grad():
            baseline = objective.baseline(policy, batch)
    return objective.loss(policy, batch, baseline)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_sums_and_gradients_do_not_depend_on_the_path(name):
    method, examples = METHODS[name]
    model = classifier() if method == "classification" else adapted(network())
    decoder = FastDecoder(model.get_base_model().get_decoder())
    ours, theirs = (sums(Policy(model, chosen), method, examples) for chosen in (decoder, None))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert_equal(gradients(model, ours[0]), gradients(model, theirs[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_batch_is_the_sum_of_its_rows(tuning):
    """Packed rows are as if each had been alone: in double precision there is nothing else."""
    model = double(network() if tuning == "full" else adapted(network()))
    decoder = FastDecoder((model if tuning == "full" else model.get_base_model()).get_decoder())
    objective = OBJECTIVES["sft"](Dataset(tuple(CHATS)), numbers())

    def loss(examples):
        return objective.loss(Policy(model, decoder), objective.collate(examples, torch.device("cpu")), None)[0]

    together = gradients(model, loss(CHATS))
    assert_equal(together, gradients(model, sum(loss([each]) for each in CHATS)))


def test_a_rank_without_rows_has_zeros_for_every_weight():
    model = adapted(network())
    decoder = FastDecoder(model.get_base_model().get_decoder())
    objective = OBJECTIVES["sft"](Dataset(tuple(CHATS)), numbers())
    found, zeros = gradients(model, objective.loss(Policy(model, decoder), objective.collate([], torch.device("cpu")), None)[0])
    assert found == 0
    assert zeros.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(gradient.any() for gradient in zeros.values())
