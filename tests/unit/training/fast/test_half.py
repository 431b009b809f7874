"""With frozen weights in bf16 sums and gradients are those of the same weights in fp32, but for the rounding of products.

The measure is the stock path in bf16, which rounds everything between its products, too: the fast one is nearer to fp32.
"""

import copy

import pytest
import torch
from fast_methods import METHODS, classifier, sums
from fast_models import VOCABULARY, adapted, frozen_in_bf16, gradients, network, threads
from torch.utils._python_dispatch import TorchDispatchMode

from services.trainer.training.fast import FastDecoder
from services.trainer.training.fast.head import target_scores
from services.trainer.training.fast.layout import lay_out
from services.trainer.training.objectives.policy import Policy

# A product of bf16 has 8 bits of mantissa.
ROUNDING = 2.0**-8


@pytest.fixture(autouse=True)
def one_thread():
    """Products are so small here that threads would only wait for each other."""
    with threads(1):
        yield


def trained(method="sft", **lora):
    return frozen_in_bf16(classifier() if method == "classification" else adapted(network(), **lora))


def exact(model):
    """The same rounded weights, everything in fp32."""
    return copy.deepcopy(model).float()


def decoder_of(model):
    return FastDecoder(model.get_base_model().get_decoder())


def distance(found, expected):
    """Of gradients by name, as a share of the length of `expected`."""
    assert found.keys() == expected.keys()
    difference, length = (
        torch.cat([value(name).flatten() for name in expected]).norm()
        for value in (lambda name: found[name] - expected[name], lambda name: expected[name])
    )
    return (difference / length).item()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_sums_and_gradients_are_those_of_fp32_but_for_the_rounding_of_products(name):
    method, examples = METHODS[name]
    half = trained(method)
    whole = exact(half)
    ours, stock, expected = (
        gradients(model, sums(Policy(model, decoder), method, examples)[0])
        for model, decoder in ((half, decoder_of(half)), (half, None), (whole, decoder_of(whole)))
    )
    assert {gradient.dtype for gradient in ours[1].values()} == {torch.float32}
    assert ours[0] == pytest.approx(expected[0], rel=ROUNDING / 4)
    assert 0 < distance(ours[1], expected[1]) < 4 * ROUNDING
    assert 3 * distance(ours[1], expected[1]) < distance(stock[1], expected[1])


def states(model, **how):
    torch.manual_seed(2)
    layout = lay_out(
        *(torch.randint(VOCABULARY, shape) for shape in ((9,), (3, 40))), (40, 7, 23), *torch.tensor([(0, 39), (1, 6), (2, 20)]).T
    )
    return decoder_of(model).states(layout, **how)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_states_are_fp32_and_near_those_of_fp32(family):
    half = frozen_in_bf16(adapted(network(family)))
    found, expected = states(half), states(exact(half))
    assert found.dtype == torch.float32
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=4 * ROUNDING * expected.abs().max().item())


class Seen(TorchDispatchMode):
    """Every operation on a tensor of bf16: its name, and what it was given."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [each for each in args if isinstance(each, torch.Tensor)]
        if any(each.dtype == torch.bfloat16 for each in given):
            self.calls.append((function.overloadpacket.__name__, given))
        return function(*args, **kwargs or {})

    def of(self, name):
        return [given for called, given in self.calls if called == name]


def test_nothing_but_products_with_frozen_weights_is_rounded():
    half = trained()
    with Seen() as seen:
        gradients(half, states(half).sum())
    # Norms multiply with their weights of bf16, in fp32.
    views = {"t", "transpose", "permute", "view", "detach", "alias"}
    assert {name for name, _ in seen.calls} - views <= {"mm", "embedding", "_to_copy", "mul", "mul_"}
    assert {each[0].dtype for each in seen.of("mul_")} == {torch.float32}
    # Seven forward and backward, in three layers; ∂x of the first is nobody's.
    assert len(seen.of("mm")) == 3 * 7 + 3 * 7 - 3
    assert {each.dtype for given in seen.of("mm") for each in given} == {torch.bfloat16}


def test_layers_that_read_the_same_round_it_once():
    half = trained()
    with torch.no_grad(), Seen() as seen:
        states(half)
    q, k, v, o, gate, up, _ = (given[0] for given in seen.of("mm")[:7])
    assert q is k is v
    assert gate is up
    assert o is not v


def test_a_switched_off_adapter_is_not_there():
    half = trained()
    bare = frozen_in_bf16(network().requires_grad_(False))
    found = FastDecoder(bare.get_decoder())
    with torch.no_grad():
        torch.manual_seed(2)
        assert torch.equal(states(half, has_adapter=False), _states_of(found))
        assert not torch.equal(states(half), states(half, has_adapter=False))


def _states_of(decoder):
    torch.manual_seed(2)
    tokens = [torch.randint(VOCABULARY, shape) for shape in ((9,), (3, 40))]
    return decoder.states(lay_out(*tokens, (40, 7, 23), *torch.tensor([(0, 39), (1, 6), (2, 20)]).T))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_step_gives_the_same_bits(dropout):
    half, found = trained(dropout=dropout), []
    for _ in range(3):
        torch.manual_seed(4)
        found.append(gradients(half, states(half).square().sum()))
    for loss, each in found[1:]:
        assert loss == found[0][0]
        assert all(torch.equal(each[name], gradient) for name, gradient in found[0][1].items())


def test_log_probabilities_are_near_and_never_positive():
    torch.manual_seed(0)
    given, weight, targets = 3 * torch.randn(50, 32), torch.randn(200, 32).bfloat16(), torch.randint(200, (50,))
    found, _ = target_scores(given, weight, targets)
    expected, _ = target_scores(given, weight.float(), targets)
    largest = (given @ weight.float().T).abs().max().item()
    assert 0 < (found - expected).abs().max().item() < 4 * ROUNDING * largest
    assert found.max() <= 0


def test_what_is_nearly_certain_still_has_a_derivative():
    """1 - p is lost where p is rounded to 8 bits."""
    weight, given = torch.eye(8).bfloat16(), torch.zeros(1, 8)
    given[0, 3] = 9.5
    slopes = []
    for each in (weight, weight.float()):
        read = given.clone().requires_grad_()
        target_scores(read, each, torch.tensor([3]))[0].sum().backward()
        slopes.append(read.grad)
    assert 0 < slopes[1][0, 3] < ROUNDING / 4
    torch.testing.assert_close(slopes[0], slopes[1], rtol=2 * ROUNDING, atol=0)


def test_nothing_to_score_is_nothing():
    read = torch.zeros(0, 8, requires_grad=True)
    scores, right = target_scores(read, torch.eye(8).bfloat16(), torch.tensor([], dtype=torch.long))
    scores.sum().backward()
    assert len(scores) == len(right) == len(read.grad) == 0
