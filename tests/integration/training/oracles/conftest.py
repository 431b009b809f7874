"""A tiny model with an adapter that already does something, and what both sides' gradients are compared by."""

import os

import pytest
import torch
from tiny_model import make_tiny_model
from training_configs import numbers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from services.trainer.training.data import Dataset
from services.trainer.training.model import add_adapter
from services.trainer.training.objectives.policy import Policy
from services.trainer.training.objectives.registry import OBJECTIVES

# Read when TRL is imported: the loss of ORPO lies among what it calls experimental.
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"


def pytest_collection_modifyitems(items):
    for item in items:
        if "oracles" in str(item.path):
            item.add_marker(pytest.mark.integration)
            # peft, TRL and torch talk about their own futures.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("oracle-model"))


@pytest.fixture
def model(directory):
    return adapted(AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32), "CAUSAL_LM")


@pytest.fixture
def classifier(directory):
    torch.manual_seed(1)
    base = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32, num_labels=3)
    return adapted(base, "SEQ_CLS")


def adapted(base, task_type):
    """A fresh adapter is zero on one side, which would hide half of the gradients and make the model its own reference."""
    torch.manual_seed(0)
    model = add_adapter(base, numbers().lora, task_type)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


class Ours:
    """An objective on one batch, without an engine: the mean loss of the window and its gradients."""

    def __init__(self, method, examples, **changes):
        chosen = numbers(paths={"method": method}, **changes)
        data = Dataset(tuple(examples))
        self.objective = OBJECTIVES[method](data, chosen)
        self.examples = list(self.objective.arrange(data).examples)

    def loss(self, model):
        policy, batch = Policy(model), self.objective.collate(self.examples, torch.device("cpu"))
        baseline = None
        if self.objective.has_baseline:
            with torch.no_grad():
                baseline = self.objective.baseline(policy, batch)
        units = [sum(column) for column in zip(*map(self.objective.units, self.examples), strict=True)]
        sums = self.objective.loss(policy, batch, baseline)
        self.metrics = {
            name: value / units[0] for name, value in zip(self.objective.metrics, sums[len(units) :].tolist(), strict=True)
        }
        return (sums[: len(units)] / torch.tensor(units)).sum()


def differentiated(model, loss):
    """(loss, gradients) and the model without gradients again."""
    model.zero_grad()
    loss.backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return loss.item(), found


@pytest.fixture
def equal():
    """Asserts that two losses and their gradients are equal to 1e-5."""

    def check(model, ours, theirs):
        expected, wanted = differentiated(model, theirs())
        found, gradients = differentiated(model, ours())
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert gradients.keys() == wanted.keys()
        assert any(gradient.abs().max() > 1e-4 for gradient in wanted.values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(
                gradient, wanted[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )

    return check


@pytest.fixture
def ours():
    return Ours
