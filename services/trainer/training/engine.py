"""DeepSpeed behind the few verbs the loop needs: accumulate a window, look at it, apply it; every rank has one."""

import importlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, distributed

from services.trainer.training import snapshot
from services.trainer.training.batches import MicroBatch, evaluation_share
from services.trainer.training.config import Hyperparameters, TrainConfig
from services.trainer.training.data import Dataset, Example
from services.trainer.training.deepspeed_config import deepspeed_config
from services.trainer.training.generation import continuation
from services.trainer.training.lanes import Lanes, divided
from services.trainer.training.loss_scale import LossScale
from services.trainer.training.model import ObjectiveModule
from services.trainer.training.objectives.objective import Objective
from services.trainer.training.random_state import preserved_random_state
from services.trainer.training.snapshot import Snapshot
from services.trainer.training.sums import Sums

_CUTS_WEIGHTS = 3
"""The ZeRO stage from which on no rank has a weight whole."""
_SAMPLE = 8_192
_SCALE = "loss_scale"
Wishes = Callable[[], Mapping[str, bool]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the host learns about a window before its step is applied; the same on every rank."""

    sums: Sums
    """Over the whole window and all ranks."""
    grad_norm: float
    """Before clipping."""
    stop: bool
    """Some rank has been asked to stop."""
    save: bool
    """Some rank finds it time for a checkpoint."""
    finish: bool = False
    """Some rank finds that the time of the run is up."""

    @property
    def is_finite(self) -> bool:
        """Whether the step may be applied."""
        return math.isfinite(self.sums.loss) and math.isfinite(self.grad_norm)


class Engine:
    """One rank's share of the training machinery."""

    def __init__(
        self, engine: Any, objective: Objective, device: torch.device, scale: LossScale | None = None, lanes: int = 1
    ) -> None:
        """`scale` = with fp16, of the parameters that are trained; `lanes` = parts a micro-batch may be divided into."""
        self._engine = engine
        self._scale = scale
        self._lanes = lanes
        self._objective = objective
        self._device = device
        self.device_type = device.type
        self._world_size = distributed.get_world_size()
        self.rank = distributed.get_rank()
        self.alive: Callable[[], None] = lambda: None
        """Called between the micro-batches of what takes longer than a step."""
        self.data_seconds = 0.0
        """What making the batches of all windows has taken so far."""
        self._norm: Tensor | None = None
        # Without ZeRO DeepSpeed would measure the norm of the gradients once more to clip them.
        engine.clip_fp32_gradients = self._clip

    @classmethod
    def start(
        cls, module: ObjectiveModule, objective: Objective, config: TrainConfig, device: torch.device, lanes: int = 1
    ) -> Self:
        """Join the other ranks (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say where) and wrap `module`."""
        deepspeed = import_deepspeed()
        # Ranks meet through a file: a port for it would be open to the network. A new try, with a new port, is a new file.
        meeting = config.output_dir.parent.resolve() / f"rendezvous-{os.environ['MASTER_PORT']}"
        deepspeed.init_distributed(
            "nccl" if device.type == "cuda" else "gloo",
            verbose=False,
            init_method=f"file://{meeting}",
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
        )
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        numbers = config.hyperparameters
        # Fused: one pass over weights, gradients and moments instead of ten.
        optimizer = torch.optim.AdamW(trained, lr=numbers.learning_rate, weight_decay=numbers.weight_decay, fused=True)
        engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, model_parameters=trained, config=deepspeed_config(config), dist_init_required=False
        )
        engine.train()
        return cls(engine, objective, device, LossScale(trained) if numbers.precision == "fp16" else None, lanes)

    def units(self, examples: Iterable[Example]) -> tuple[int, ...]:
        """What the examples count in each part of the loss."""
        return tuple(map(sum, zip(*map(self._objective.units, examples), strict=True)))

    def gradient(self, micro_batches: Sequence[Sequence[Example]], units: tuple[int, ...], wishes: Wishes) -> Measurement:
        """Of this rank's share of a window; `wishes`, asked afterwards, gives what `measure` takes.

        With fp16 the gradient is taken anew until it does not overflow.
        """
        measured = self.measure(self.accumulate(micro_batches, units), units, **wishes())
        while self._scale and self._scale.has_room() and math.isfinite(measured.sums.loss) and not measured.is_finite:
            self.discard(self.snapshot())
            self._scale.shrink()
            measured = self.measure(self.accumulate(micro_batches, units), units, **wishes())
        return measured

    def accumulate(self, micro_batches: Sequence[Sequence[Example]], units: tuple[int, ...]) -> Tensor:
        """Forward and backward over this rank's share of a window; returns its sums [parts + metrics], still on the device.

        `units` counts the whole window over all ranks. DeepSpeed averages gradients over ranks, hence the factor: every unit of
        the window weighs the same, however the window is cut.
        """
        began = time.perf_counter()
        batches = [self._collated(examples) for examples in micro_batches]
        self.data_seconds += time.perf_counter() - began
        baseline = self._baseline(batches)
        enlarged = self._world_size * (self._scale.value if self._scale else 1.0)
        scale = enlarged / torch.tensor(units, dtype=torch.float32, device=self._device)
        total: Tensor | None = None
        for index, batch in enumerate(batches):
            sums = self._engine(batch, baseline)
            self._engine.backward(sums[: len(units)] @ scale, scale_wrt_gas=False)
            total = sums.detach() if total is None else total + sums.detach()
            if index < len(batches) - 1:
                self._engine.step()  # only counts the micro-batch; the weights move in `apply`
        assert total is not None, "a window has a micro-batch"
        return total

    def measure(self, sums: Tensor, units: tuple[int, ...], *, stop: bool, save: bool, finish: bool = False) -> Measurement:
        """Sums and gradient norm of the whole window, and whether any rank wants to stop, to save or to finish."""
        wishes = torch.tensor([stop, save, finish], dtype=torch.float64, device=self._device)
        shared = torch.cat([sums.double(), wishes])
        self._sum_over_ranks(shared)
        self._norm = self._grad_norm()
        norm = self._norm.double().reshape(1)
        # The one host sync of an optimizer step, none per micro-batch: a step that is not finite must not be applied.
        *found, stops, saves, finishes, grad_norm = torch.cat([shared, norm]).tolist()
        return Measurement(self._named(found, units), grad_norm, stops > 0, saves > 0, finishes > 0)

    def apply(self, learning_rate: float) -> None:
        """Clip, move the weights, forget the gradients."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        if self._scale:
            self._scale.note_step()

    @torch.no_grad()
    def evaluate(self, data: Dataset, numbers: Hyperparameters) -> Sums:
        """Over `data`, all ranks together, without learning."""
        batches = self._shares(data, numbers)
        baseline = self._baseline([batch for _, batch in batches])
        self._engine.eval()
        total = torch.stack([self._summed(batch, baseline) for _, batch in batches]).sum(0)
        self._engine.train()
        self._sum_over_ranks(total)
        return self._named(total.tolist(), self.units(data.examples))

    def discard(self, state: Snapshot) -> None:
        """Forget the gradients of a window that is not applied, and continue from `state`."""
        # Only a step brings DeepSpeed's own books in order. What it does to weights and moments is undone.
        self._engine.step()
        self.restore(state)

    def rehearse(self, micro_batch: Sequence[Example]) -> None:
        """Forward and backward of one micro-batch, which takes as much memory as in training and leaves nothing behind."""
        batch = self._collated(micro_batch)
        trained = [parameter for parameter in self._engine.module.parameters() if parameter.requires_grad]
        with preserved_random_state(self._device):
            baseline = self._baseline([batch])
            sums = self._engine.module(batch, baseline)
            # Gradients as values, not in the parameters: DeepSpeed never hears of them.
            torch.autograd.grad(sums.sum(), trained, allow_unused=True)

    @torch.no_grad()
    def generate(self, token_ids: Sequence[int], most: int, stops: frozenset[int]) -> list[int]:
        """At most `most` tokens after the given ones, each the most likely, up to and including one of `stops`."""
        self._engine.eval()
        found = continuation(self._engine.module.model, token_ids, most, stops, self._device)
        self._engine.train()
        self.alive()
        return found

    def sample_of_weights(self) -> Tensor:
        """A part of what is trained, copied to the CPU; empty where no rank has a whole weight."""
        if self._engine.zero_optimization_stage() == _CUTS_WEIGHTS:
            return torch.empty(0)
        trained = next(parameter for parameter in self._engine.module.parameters() if parameter.requires_grad)
        sample: Tensor = trained.detach().flatten()[:_SAMPLE].to("cpu", torch.float32, copy=True)
        return sample

    @torch.no_grad()
    def with_reference(self, data: Dataset, numbers: Hyperparameters) -> Dataset:
        """`data` with what the objective compares with: log-probabilities by the model as it is now, before training."""
        self._engine.eval()
        found = torch.zeros((len(data.examples), len(data.examples[0].texts)), device=self._device)
        for positions, batch in self._shares(data, numbers):
            found[list(positions)] = self._engine(batch, ask="reference")
            self.alive()
        self._engine.train()
        self._sum_over_ranks(found)
        pairs = zip(data.examples, found.tolist(), strict=True)
        return replace(data, examples=tuple(replace(example, reference=tuple(values)) for example, values in pairs))

    def whole_weights(self) -> AbstractContextManager[Any]:
        """Inside, the first rank has all trained and frozen weights whole; every rank must enter."""
        if self._engine.zero_optimization_stage() < _CUTS_WEIGHTS:
            return nullcontext()
        gathered: AbstractContextManager[Any] = import_deepspeed().zero.GatheredParameters(list(self._engine.module.parameters()))
        return gathered

    def exchange(self, values: Sequence[int]) -> list[list[int]]:
        """Every rank's values, by rank; all ranks give equally many."""
        own = torch.tensor(values, dtype=torch.int64, device=self._device)
        gathered = [torch.empty_like(own) for _ in range(self._world_size)]
        distributed.all_gather(gathered, own)
        return [given.tolist() for given in gathered]

    def snapshot(self) -> Snapshot:
        """Weights, moments, random numbers and the scale of the loss as they are between two steps."""
        taken = snapshot.take(self._engine, self._device)
        return replace(taken, own={**taken.own, _SCALE: self._scale.state()}) if self._scale else taken

    def restore(self, state: Snapshot) -> None:
        """Continues from a snapshot; call it before the first step."""
        snapshot.restore(self._engine, self._device, state)
        if self._scale:
            self._scale.restore(state.own[_SCALE])

    def close(self) -> None:
        """Leave the other ranks."""
        distributed.destroy_process_group()

    def _summed(self, batch: Any, baseline: Tensor | None) -> Tensor:
        self.alive()
        summed: Tensor = self._engine(batch, baseline).double()
        return summed

    @torch.no_grad()
    def _baseline(self, batches: Sequence[Any]) -> Tensor | None:
        """What the losses of these micro-batches and those of the other ranks are measured against; None = nothing."""
        if not self._objective.has_baseline:
            return None
        was_training = self._engine.training
        self._engine.eval()
        total = torch.stack([self._engine(batch, ask="baseline") for batch in batches]).sum(0)
        self._engine.train(was_training)
        self._sum_over_ranks(total)
        return total

    def _shares(self, data: Dataset, numbers: Hyperparameters) -> list[tuple[MicroBatch, Any]]:
        """This rank's micro-batches of one pass: positions and tensors."""
        share = evaluation_share(data.lengths, numbers)[self.rank]
        return [(positions, self._collated(data.take(positions))) for positions in share]

    def _collated(self, examples: Sequence[Example]) -> Any:
        """The tensors of a micro-batch, in lanes if it is large enough."""
        parts = tuple(self._objective.collate(part, self._device) for part in divided(examples, self._lanes))
        return Lanes(parts) if len(parts) > 1 else parts[0]

    def _named(self, sums: Sequence[float], units: tuple[int, ...]) -> Sums:
        return Sums(tuple(sums[: len(units)]), tuple(sums[len(units) :]), units, self._objective.metrics)

    def _grad_norm(self) -> Tensor:
        if self._engine.zero_optimization_stage() == _CUTS_WEIGHTS:
            return self._grad_norm_of_parts()
        if self._engine.zero_optimization_stage() > 0:
            # Under ZeRO the gradients lie with their owners; DeepSpeed adds the squares up over ranks.
            return torch.as_tensor(self._engine.optimizer.scaled_global_norm(), device=self._device)
        gradients = [parameter.grad for parameter in self._engine.module.parameters() if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _grad_norm_of_parts(self) -> Tensor:
        """Under ZeRO 3 every rank has a part of each gradient."""
        from deepspeed.utils import safe_get_local_grad

        trained = [parameter for parameter in self._engine.module.parameters() if parameter.requires_grad]
        squares = torch.stack([safe_get_local_grad(parameter).double().square().sum() for parameter in trained]).sum()
        self._sum_over_ranks(squares)
        return squares.sqrt()

    def _clip(self) -> None:
        assert self._norm is not None, "a window is measured before it is applied"
        torch.nn.utils.clip_grads_with_norm_(self._engine.module.parameters(), self._engine.gradient_clipping(), self._norm)

    def _sum_over_ranks(self, values: Tensor) -> None:
        if self._world_size > 1:
            distributed.all_reduce(values)


def local_device() -> torch.device:
    """The GPU of this rank, or the CPU. Call it before anything imports DeepSpeed, which looks for GPUs of its own accord."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return torch.device("cpu")


def import_deepspeed() -> Any:
    """The module, quiet and without its C++ builder. Call `local_device` first."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed
    import deepspeed.utils

    deepspeed.utils.logger.setLevel(logging.ERROR)
    # On a CPU DeepSpeed compiles a C++ extension for communication in shared memory at its first start, half a minute that gloo
    # does not need. Without the builder it uses torch's own collectives. (`import deepspeed.comm.torch as x` would give torch.)
    importlib.import_module("deepspeed.comm.torch")
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    return deepspeed
