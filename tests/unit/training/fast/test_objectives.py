"""Every training method gives the same sums and gradients on the fast path as on the stock one."""

import pytest
import torch
from fast_methods import CHATS, METHODS, classifier, sums
from fast_models import adapted, assert_equal, double, gradients, network
from training_configs import numbers

from services.trainer.training.data import Dataset
from services.trainer.training.fast import FastDecoder
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.registry import OBJECTIVES


@pytest.mark.parametrize("name", sorted(METHODS))
def test_sums_and_gradients_do_not_depend_on_the_path(name):
    method, examples = METHODS[name]
    # In double precision, but for the logits, of which transformers makes fp32, and for a head that is given fp32.
    model = classifier() if method == "classification" else double(adapted(network()))
    decoder = FastDecoder(model.get_base_model().get_decoder())
    ours, theirs = (sums(Policy(model, chosen), method, examples) for chosen in (decoder, None))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5, check_dtype=False)
    assert_equal(gradients(model, ours[0]), gradients(model, theirs[0]), rtol=1e-4, atol=2e-6)


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
