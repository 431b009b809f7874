"""The state of a DeepSpeed engine as named tensors, and back; used by `Engine`.

DeepSpeed's own checkpoints hold the whole embedding matrix for a small adapter and are pickles; these hold what moves.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_WEIGHT = "weight/"
_OPTIMIZER = "optimizer/"
_RANDOM = "random/"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies on the CPU; the engine may go on."""

    shared: Mapping[str, Tensor]
    """Alike on every rank: the trained weights, and the optimizer's moments unless ZeRO cuts them."""
    own: Mapping[str, Tensor]
    """This rank's: its part of the optimizer's moments under ZeRO 1 and 2, and its random number generators."""


def take(engine: Any, device: torch.device) -> Snapshot:
    """What the engine has now."""
    weights = {_WEIGHT + name: parameter for name, parameter in _trained(engine)}
    moments = {
        f"{_OPTIMIZER}{index}/{name}": value
        for index, state in _optimizer(engine).state_dict()["state"].items()
        for name, value in state.items()
    }
    cut = _is_cut(engine)
    shared, own = weights | ({} if cut else moments), (moments if cut else {}) | _random_state(device)
    return Snapshot(_copied(shared), _copied(own))


def restore(engine: Any, device: torch.device, snapshot: Snapshot) -> None:
    """Makes a fresh engine of the same module, optimizer and ranks equal to the one the snapshot was taken of."""
    with torch.no_grad():
        for name, parameter in _trained(engine):
            parameter.copy_(snapshot.shared[_WEIGHT + name])
    if _is_cut(engine):
        # ZeRO moves its own copy of this rank's part of the weights, not the module's.
        engine.optimizer.refresh_fp32_params()
    _restore_moments(_optimizer(engine), snapshot.own if _is_cut(engine) else snapshot.shared)
    _restore_random_state(device, snapshot.own)


def _restore_moments(optimizer: Any, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(_OPTIMIZER):
            index, name = key.removeprefix(_OPTIMIZER).split("/")
            state.setdefault(int(index), {})[name] = value
    # Its numbers are the configuration's, and the learning rate is set before every step.
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _random_state(device: torch.device) -> dict[str, Tensor]:
    _, words, spare = random.getstate()
    values = {
        "cpu": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_spare": torch.tensor(math.nan if spare is None else spare, dtype=torch.float64),
    }
    if device.type == "cuda":
        values["cuda"] = torch.cuda.get_rng_state(device)
    return {_RANDOM + name: value for name, value in values.items()}


def _restore_random_state(device: torch.device, tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors[_RANDOM + "cpu"])
    spare = float(tensors[_RANDOM + "python_spare"])
    random.setstate((3, tuple(tensors[_RANDOM + "python"].tolist()), None if math.isnan(spare) else spare))
    if device.type == "cuda" and _RANDOM + "cuda" in tensors:
        torch.cuda.set_rng_state(tensors[_RANDOM + "cuda"], device)


def _trained(engine: Any) -> list[tuple[str, Tensor]]:
    return [(name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad]


def _is_cut(engine: Any) -> bool:
    return bool(engine.zero_optimization_stage() > 0)


def _optimizer(engine: Any) -> Any:
    return engine.optimizer.optimizer if _is_cut(engine) else engine.optimizer


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Under ZeRO they are views into one long tensor, which safetensors would refuse as shared memory.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
