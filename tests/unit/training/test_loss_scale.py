"""The scale of a loss: gradients keep their size, overflows halve it, and a checkpoint has it."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from services.trainer.training.loss_scale import LossScale  # noqa: E402  # after the skip


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(4, 3)


def test_gradients_have_the_size_they_have_without_it(layer: nn.Linear) -> None:
    inputs = torch.randn(5, 4)
    layer(inputs).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in layer.parameters()]
    layer.zero_grad()
    scale = LossScale(layer.parameters())
    for _ in range(2):
        (layer(inputs).square().sum() * scale.value).backward()
        assert all(torch.equal(parameter.grad, own) for parameter, own in zip(layer.parameters(), expected, strict=True))
        layer.zero_grad()
        scale.shrink()


def test_what_fp16_has_no_number_for_is_still_learned_from(layer: nn.Linear) -> None:
    layer.half()
    inputs = torch.ones(1, 4, dtype=torch.float16)
    tiny = 2.0**-30

    def gradient(enlarged: float) -> torch.Tensor:
        layer.zero_grad()
        (layer(inputs).float().sum() * (tiny * enlarged)).backward()
        return layer.weight.grad

    assert gradient(1.0).abs().sum() == 0
    small = LossScale([])
    assert gradient(small.value).abs().sum() > 0


def test_overflows_halve_it_down_to_one(layer: nn.Linear) -> None:
    scale = LossScale(layer.parameters())
    seen = []
    while scale.has_room():
        seen.append(scale.value)
        scale.shrink()
    assert seen == [2.0**power for power in range(16, 0, -1)]
    assert scale.value == 1


def test_it_grows_again_after_a_long_calm_but_never_beyond_the_first(layer: nn.Linear) -> None:
    scale = LossScale(layer.parameters())
    first = scale.value
    scale.shrink()
    for _ in range(1_999):
        scale.note_step()
    assert scale.value == first / 2
    scale.note_step()
    assert scale.value == first
    for _ in range(2_000):
        scale.note_step()
    assert scale.value == first


def test_an_overflow_begins_the_calm_anew(layer: nn.Linear) -> None:
    scale = LossScale(layer.parameters())
    scale.shrink()
    for _ in range(1_999):
        scale.note_step()
    scale.shrink()
    scale.note_step()
    assert scale.value == 2.0**14


def test_a_restored_one_goes_on_as_the_one_it_was_taken_of(layer: nn.Linear) -> None:
    scale, other = LossScale(layer.parameters()), LossScale(layer.parameters())
    scale.shrink()
    for _ in range(1_500):
        scale.note_step()
    other.restore(scale.state())
    for each in (scale, other):
        for _ in range(500):
            each.note_step()
    assert scale.value == other.value == 2.0**16
    assert scale.state().tolist() == other.state().tolist() == [2.0**16, 0]
