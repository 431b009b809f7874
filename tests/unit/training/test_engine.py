"""The engine over a DeepSpeed that does no more than it is asked: clipping by the norm that was measured anyway, and the time
that batches take."""

import copy
import math

import pytest
import torch
from torch import distributed, nn

from services.trainer.training import engine as engine_module
from services.trainer.training.engine import Engine, Measurement
from services.trainer.training.loss_scale import LossScale
from services.trainer.training.objectives.objective import Objective
from services.trainer.training.sums import Sums


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


@pytest.fixture
def scaled(norms, monkeypatch):
    """An engine with a scale, whose windows give the norms and losses of `found`; and the scales they were computed with."""

    class Scaled(Engine):
        found = ()

        def accumulate(self, micro_batches, units):
            self.used.append(self._scale.value if self._scale else None)
            return torch.zeros(1)

        def measure(self, sums, units, **wishes):
            loss, norm = self.found[len(self.used) - 1]
            return Measurement(Sums((loss,), (), (1,), ()), norm, **wishes)

        def discard(self, state):
            self.forgotten.append(state)

        def snapshot(self):
            return f"state {len(self.used)}"

    def make(found, *, has_scale=True):
        module = nn.Linear(1, 1)
        scale = LossScale(module.parameters()) if has_scale else None
        engine = Scaled(FakeDeepSpeed(module, 0.0), Plain(), torch.device("cpu"), scale)
        engine.found, engine.used, engine.forgotten = found, [], []
        return engine

    return make


WISHES = {"stop": False, "save": True, "finish": False}


def test_a_window_that_overflows_is_computed_again_with_less(scaled):
    engine = scaled([(1.5, math.inf), (1.5, math.nan), (1.5, 2.0)])
    measured = engine.gradient([[]], (1,), lambda: WISHES)
    assert (measured.grad_norm, measured.save, measured.stop) == (2.0, True, False)
    assert engine.used == [2.0**16, 2.0**15, 2.0**14]
    assert engine.forgotten == ["state 1", "state 2"], "weights and moments are those from before"


def test_a_loss_that_is_not_finite_is_no_matter_of_scale(scaled):
    engine = scaled([(math.nan, math.nan)])
    assert not engine.gradient([[]], (1,), lambda: WISHES).is_finite
    assert (engine.used, engine.forgotten) == ([2.0**16], [])


def test_gradients_that_are_never_finite_end_it(scaled):
    engine = scaled([(1.5, math.nan)] * 30)
    assert not engine.gradient([[]], (1,), lambda: WISHES).is_finite
    assert engine.used == [2.0**power for power in range(16, -1, -1)]


def test_without_a_scale_there_is_one_try(scaled):
    engine = scaled([(1.5, math.nan)], has_scale=False)
    assert not engine.gradient([[]], (1,), lambda: WISHES).is_finite
    assert engine.used == [None]


def test_wishes_that_come_while_a_window_is_computed_count(scaled):
    engine = scaled([(1.5, math.inf), (1.5, 2.0)])
    measured = engine.gradient([[]], (1,), lambda: WISHES | {"stop": len(engine.used) == 2})
    assert measured.stop
