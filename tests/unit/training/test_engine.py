"""The engine over a DeepSpeed that does no more than it is asked: clipping by the norm that was measured anyway, and the time
that batches take."""

import copy

import pytest
import torch
from torch import distributed, nn

from services.trainer.training import engine as engine_module
from services.trainer.training.engine import Engine
from services.trainer.training.objectives.objective import Objective


class FakeDeepSpeed:
    """Without ZeRO: clips by a method of its own, then lets the optimizer step."""

    def __init__(self, module, most):
        self.module, self._most = module, most
        self.optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    def zero_optimization_stage(self):
        return 0

    def gradient_clipping(self):
        return self._most

    def clip_fp32_gradients(self):
        raise AssertionError("it would measure the norm again")

    def step(self):
        if self._most > 0:
            self.clip_fp32_gradients()
        self.optimizer.step()


class Plain(Objective):
    metrics = ()

    def __init__(self):
        pass


@pytest.fixture
def norms(monkeypatch):
    """How often a norm of gradients was measured."""
    monkeypatch.setattr(distributed, "get_world_size", lambda: 1)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    found, measure = [], torch.nn.utils.get_total_norm
    monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda tensors: found.append(1) or measure(tensors))
    return found


@pytest.mark.parametrize("most", [0.05, 1e6, 0.0], ids=["clipped", "too small to clip", "never"])
def test_the_norm_is_measured_once_and_the_weights_are_torchs(norms, most):
    torch.manual_seed(3)
    module, inputs = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 1)), torch.randn(9, 5)
    expected = copy.deepcopy(module)
    for each in (module, expected):
        each(inputs).sum().backward()
    norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), most) if most else None
    torch.optim.SGD(expected.parameters(), lr=0.1).step()

    engine = Engine(FakeDeepSpeed(module, most), Plain(), torch.device("cpu"))
    norms.clear()
    measured = engine.measure(torch.tensor([1.0]), (1,), stop=False, save=False)
    engine.apply(0.1)

    assert len(norms) == 1
    assert norm is None or measured.grad_norm == pytest.approx(float(norm))
    for ours, theirs in zip(module.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_only_what_making_batches_takes_is_time_for_data(norms, monkeypatch):
    now = [100.0]

    class Slow(Plain):
        has_baseline = False

        def collate(self, examples, device):
            now[0] += 3.0
            return torch.ones(2)

    class Learning(FakeDeepSpeed):
        def __call__(self, batch, baseline):
            now[0] += 50.0
            return batch

        def backward(self, loss, scale_wrt_gas):
            now[0] += 50.0

    monkeypatch.setattr(engine_module.time, "perf_counter", lambda: now[0])
    engine = Engine(Learning(nn.Linear(1, 1), 0.0), Slow(), torch.device("cpu"))
    engine.accumulate([[], []], (1, 1))
    assert engine.data_seconds == 6.0
    engine.accumulate([[]], (1, 1))
    assert engine.data_seconds == 9.0
