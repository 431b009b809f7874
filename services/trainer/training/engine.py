"""DeepSpeed behind the few verbs the loop needs: accumulate a window, look at it, apply it; every rank has one."""

import importlib
import logging
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, distributed

from services.trainer.training import snapshot
from services.trainer.training.config import TrainConfig
from services.trainer.training.data import Example
from services.trainer.training.deepspeed_config import deepspeed_config
from services.trainer.training.model import ObjectiveModule
from services.trainer.training.objectives.objective import Objective
from services.trainer.training.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the host learns about a window before its step is applied; the same on every rank."""

    loss_sum: float
    """Over all target tokens of the window and all ranks, nats."""
    grad_norm: float
    """Before clipping."""
    stop: bool
    """Some rank has been asked to stop."""
    save: bool
    """Some rank finds it time for a checkpoint."""

    @property
    def is_finite(self) -> bool:
        """Whether the step may be applied."""
        return math.isfinite(self.loss_sum) and math.isfinite(self.grad_norm)


class Engine:
    """One rank's share of the training machinery."""

    def __init__(self, engine: Any, objective: Objective, device: torch.device) -> None:
        self._engine = engine
        self._objective = objective
        self._device = device
        self._world_size = distributed.get_world_size()
        self.rank = distributed.get_rank()

    @classmethod
    def start(cls, module: ObjectiveModule, objective: Objective, config: TrainConfig, device: torch.device) -> Self:
        """Join the other ranks (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say where) and wrap `module`."""
        deepspeed = _import_deepspeed()
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
        optimizer = torch.optim.AdamW(trained, lr=numbers.learning_rate, weight_decay=numbers.weight_decay)
        engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, model_parameters=trained, config=deepspeed_config(config), dist_init_required=False
        )
        engine.train()
        return cls(engine, objective, device)

    def accumulate(self, micro_batches: Sequence[Sequence[Example]], target_tokens: int) -> Tensor:
        """Forward and backward over this rank's share of a window; returns its loss sum, still on the device.

        `target_tokens` counts the whole window over all ranks. DeepSpeed averages gradients over ranks, hence the factor: every
        target token of the window weighs the same, however the window is cut.
        """
        total = torch.zeros((), device=self._device)
        for index, examples in enumerate(micro_batches):
            loss_sum = self._engine(self._objective.collate(examples, self._device))
            self._engine.backward(loss_sum * (self._world_size / target_tokens), scale_wrt_gas=False)
            total += loss_sum.detach()
            if index < len(micro_batches) - 1:
                self._engine.step()  # only counts the micro-batch; the weights move in `apply`
        return total

    def measure(self, loss_sum: Tensor, *, stop: bool, save: bool) -> Measurement:
        """Loss and gradient norm of the whole window, and whether any rank wants to stop or to save."""
        wishes = torch.tensor([stop, save], dtype=torch.float64, device=self._device)
        shared = torch.cat([loss_sum.double().reshape(1), wishes])
        self._sum_over_ranks(shared)
        norm = self._grad_norm().double().reshape(1)
        # The one host sync of an optimizer step, none per micro-batch: a step that is not finite must not be applied.
        loss, stops, saves, grad_norm = torch.cat([shared, norm]).tolist()
        return Measurement(loss, grad_norm, stops > 0, saves > 0)

    def apply(self, learning_rate: float) -> None:
        """Clip, move the weights, forget the gradients."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()

    @torch.no_grad()
    def loss_sum(self, micro_batches: Iterable[Sequence[Example]]) -> float:
        """Loss over all ranks' micro-batches, without learning; `micro_batches` is this rank's share."""
        self._engine.eval()
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for examples in micro_batches:
            total += self._engine(self._objective.collate(examples, self._device))
        self._engine.train()
        self._sum_over_ranks(total)
        return float(total)

    def exchange(self, values: Sequence[int]) -> list[list[int]]:
        """Every rank's values, by rank; all ranks give equally many."""
        own = torch.tensor(values, dtype=torch.int64, device=self._device)
        gathered = [torch.empty_like(own) for _ in range(self._world_size)]
        distributed.all_gather(gathered, own)
        return [given.tolist() for given in gathered]

    def snapshot(self) -> Snapshot:
        """Weights, moments and random numbers as they are between two steps."""
        return snapshot.take(self._engine, self._device)

    def restore(self, state: Snapshot) -> None:
        """Continues from a snapshot; call it before the first step."""
        snapshot.restore(self._engine, self._device, state)

    def close(self) -> None:
        """Leave the other ranks."""
        distributed.destroy_process_group()

    def _grad_norm(self) -> Tensor:
        if self._engine.zero_optimization_stage() > 0:
            # Under ZeRO the gradients lie with their owners; DeepSpeed adds the squares up over ranks.
            return torch.as_tensor(self._engine.optimizer.scaled_global_norm(), device=self._device)
        gradients = [parameter.grad for parameter in self._engine.module.parameters() if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _sum_over_ranks(self, values: Tensor) -> None:
        if self._world_size > 1:
            distributed.all_reduce(values)


def local_device() -> torch.device:
    """The GPU of this rank, or the CPU. Call it before anything imports DeepSpeed, which looks for GPUs of its own accord."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return torch.device("cpu")


def _import_deepspeed() -> Any:
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed
    import deepspeed.utils

    deepspeed.utils.logger.setLevel(logging.ERROR)
    # On a CPU DeepSpeed compiles a C++ extension for communication in shared memory at its first start, half a minute that gloo
    # does not need. Without the builder it uses torch's own collectives. (`import deepspeed.comm.torch as x` would give torch.)
    importlib.import_module("deepspeed.comm.torch")
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    return deepspeed
