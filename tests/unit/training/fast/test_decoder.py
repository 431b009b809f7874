"""Final states and all gradients are those of the stock decoder on each sequence alone, in double precision."""

import pytest
import torch
from fast_models import VOCABULARY, adapted, assert_equal, double, gradients, network
from peft import PeftModel

from services.trainer.training.fast import FastDecoder
from services.trainer.training.fast.layer import _Layer
from services.trainer.training.fast.layout import lay_out

LENGTHS = (5, 70, 33, 1, 12, 32)
WANTED = [(0, 1), (0, 2), (1, 4), (1, 69), (1, 20), (2, 32), (3, 0), (4, 7), (5, 31)]


def stock(model, prefix, token_ids, wanted=WANTED, lengths=LENGTHS):
    decoder = plain(model).get_decoder()
    sequences = [torch.cat([prefix, row[:length]])[None] for row, length in zip(token_ids, lengths, strict=True)]
    states = [decoder(input_ids=sequence, use_cache=False).last_hidden_state[0, len(prefix) :] for sequence in sequences]
    return torch.stack([states[row][column] for row, column in wanted])


def fast(model, prefix, token_ids, wanted=WANTED, lengths=LENGTHS, **how):
    rows, columns = torch.tensor(wanted, dtype=torch.long).reshape(-1, 2).unbind(1)
    return FastDecoder(plain(model).get_decoder()).states(lay_out(prefix, token_ids, lengths, rows, columns), **how)


def plain(model):
    return model.get_base_model() if isinstance(model, PeftModel) else model


def tokens(prefix=0):
    torch.manual_seed(2)
    return torch.randint(VOCABULARY, (prefix,)), torch.randint(VOCABULARY, (len(LENGTHS), max(LENGTHS)))


def weighted(states):
    """A number that depends on every state differently."""
    return (states * torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view_as(states).sin()).sum()


@pytest.mark.parametrize("prefix", [0, 40])
def test_states_and_gradients_are_those_of_each_sequence_alone(model, prefix):
    given = tokens(prefix)
    ours, theirs = (gradients(model, weighted(of(model, *given))) for of in (fast, stock))
    assert_equal(ours, theirs)


def test_in_single_precision_they_differ_by_rounding_alone():
    model = adapted(network())
    torch.testing.assert_close(fast(model, *tokens(40)), stock(model, *tokens(40)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("last_layers", "derived"), [(0, 3), (1, 1), (2, 2), (3, 3)])
def test_below_the_first_layer_that_learns_nothing_is_kept_and_nothing_derived(last_layers, derived, monkeypatch):
    model, calls = adapted(network(), last_layers=last_layers), []
    backward = _Layer.backward
    monkeypatch.setattr(
        _Layer, "backward", staticmethod(lambda ctx, gradient: calls.append(ctx.layer) or backward(ctx, gradient))
    )
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.shape) or tensor, lambda tensor: tensor):
        states = fast(model, *tokens(9))
    weighted(states).backward()
    assert len(calls) == derived
    # Eleven tensors of a layer, five of the last norm.
    assert len(saved) == 11 * derived + 5


def test_the_first_layer_that_learns_is_the_last_one_derived():
    model = adapted(network(), last_layers=2)
    decoder = FastDecoder(model.get_base_model().get_decoder())
    assert (len(decoder._frozen), len(decoder._layers)) == (1, 2)


@pytest.mark.parametrize(("last_layers", "layers"), [(0, 3), (3, 3), (2, 3), (1, 2)])
def test_memory_is_counted_of_layers_that_learn_and_of_one_that_does_not(last_layers, layers):
    model = adapted(network(), last_layers=last_layers)
    each = 4 * (2 * 48 + (48 + 2 * 16) + 48 + 2 * 40)
    assert FastDecoder(model.get_base_model().get_decoder()).bytes_per_token == layers * each


def test_a_frozen_model_has_a_last_layer_all_the_same():
    model = network().requires_grad_(False)
    torch.testing.assert_close(fast(model, *tokens(9)), stock(model, *tokens(9)), rtol=1e-5, atol=1e-5)


def test_a_switched_off_adapter_is_not_there():
    model, given = double(adapted(network())), tokens(9)
    adapted_states = fast(model, *given)
    with torch.no_grad(), model.disable_adapter():
        found, expected = fast(model, *given, has_adapter=False), stock(model, *given)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, adapted_states)


def test_a_state_may_be_asked_for_twice():
    model, given = double(network()), tokens()
    wanted = [(4, 3), (0, 1), (4, 3)]
    ours, theirs = (gradients(model, weighted(of(model, *given, wanted))) for of in (fast, stock))
    assert_equal(ours, theirs)


def test_without_a_wanted_state_every_gradient_is_there_and_zero():
    model = double(adapted(network()))
    _, found = gradients(model, fast(model, *tokens(9), []).sum())
    assert found.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(gradient.any() for gradient in found.values())


def test_what_stands_in_for_padding_does_not_matter():
    model, (prefix, token_ids) = double(network()), tokens(9)
    changed = token_ids.clone()
    for row, length in enumerate(LENGTHS):
        changed[row, length:] = 0
    assert torch.equal(fast(model, prefix, token_ids), fast(model, prefix, changed))


def test_tokens_nobody_depends_on_are_not_computed():
    layout = lay_out(*tokens(9), LENGTHS, *torch.tensor([(0, 3), (1, 9)]).unbind(1))
    # One token stays of each sequence that nothing is asked of.
    assert len(layout.token_ids) == 9 + 4 + 10 + len(LENGTHS) - 2


def test_dropout_multiplies_what_an_adapter_reads(monkeypatch):
    model, given = double(adapted(network(), dropout=0.5)), tokens(9)
    masks = torch.Generator().manual_seed(3)

    def mask(x):
        # By shape alone: both sides see the same, whatever the order in which they ask.
        masks.manual_seed(x.shape[-1])
        return (torch.rand(x.shape[-1], generator=masks) > 0.5).to(x.dtype) * 2

    monkeypatch.setattr("torch.nn.functional.dropout", lambda x, p, training, inplace: x * mask(x) if training else x)
    monkeypatch.setattr("services.trainer.training.fast.projection._dropped", lambda x, rate: mask(x).expand_as(x))
    ours, theirs = (gradients(model, weighted(of(model, *given))) for of in (fast, stock))
    assert_equal(ours, theirs)


def test_dropout_is_drawn_from_torch_and_off_in_evaluation():
    model, given = adapted(network(), dropout=0.5), tokens()
    torch.manual_seed(5)
    first = fast(model, *given)
    assert not torch.allclose(first, fast(model, *given))
    torch.manual_seed(5)
    assert torch.equal(first, fast(model, *given))
    model.eval()
    torch.testing.assert_close(fast(model, *given), stock(model, *given), rtol=1e-5, atol=1e-5)


def test_dropout_keeps_the_mean():
    from services.trainer.training.fast.projection import _dropped

    factors = _dropped(torch.ones(1000, 10), 0.2)
    assert set(factors.unique().tolist()) == {0.0, 1.25}
    assert factors.mean().item() == pytest.approx(1, abs=0.02)
