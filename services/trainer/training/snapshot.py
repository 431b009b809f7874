"""The state of a DeepSpeed engine as named tensors, and back; used by `Engine`.

DeepSpeed's own checkpoints hold the whole embedding matrix for a small adapter and are pickles; these hold what moves.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

_WEIGHT = "weight/"
_PART = "part/"
_OPTIMIZER = "optimizer/"
_RANDOM = "random/"

_CUTS_MOMENTS, _CUTS_WEIGHTS = 1, 3
"""ZeRO stages from which on a rank has only a part."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies on the CPU; the engine may go on."""

    shared: Mapping[str, Tensor]
    """Alike on every rank: the trained weights and the optimizer's moments, as far as ZeRO does not cut them."""
    own: Mapping[str, Tensor]
    """This rank's: its parts of what ZeRO cuts, and its random number generators."""


def take(engine: Any, device: torch.device) -> Snapshot:
    """What the engine has now."""
    stage = engine.zero_optimization_stage()
    if stage >= _CUTS_WEIGHTS:
        state = engine.optimizer.state_dict()
        parts = {f"{_PART}{index}": part for index, part in enumerate(state["fp32_flat_groups"])}
        return Snapshot({}, _copied(parts | _moments(state["optimizer_state_dict"]) | _random_state(device)))
    weights = {_WEIGHT + name: parameter for name, parameter in _trained(engine)}
    if stage >= _CUTS_MOMENTS:
        moments = _moments(engine.optimizer.optimizer.state_dict())
        return Snapshot(_copied(weights), _copied(moments | _random_state(device)))
    return Snapshot(_copied(weights | _moments(engine.optimizer.state_dict())), _copied(_random_state(device)))


def restore(engine: Any, device: torch.device, snapshot: Snapshot) -> None:
    """Makes a fresh engine of the same module, optimizer and ranks equal to the one the snapshot was taken of."""
    stage = engine.zero_optimization_stage()
    if stage >= _CUTS_WEIGHTS:
        _restore_parts(engine.optimizer, snapshot.own)
    else:
        with torch.no_grad():
            for name, parameter in _trained(engine):
                parameter.copy_(snapshot.shared[_WEIGHT + name])
        if stage >= _CUTS_MOMENTS:
            # ZeRO moves its own copy of this rank's part of the weights, not the module's.
            engine.optimizer.refresh_fp32_params()
            _restore_moments(engine.optimizer.optimizer, snapshot.own)
        else:
            _restore_moments(engine.optimizer, snapshot.shared)
    _restore_random_state(device, snapshot.own)


def _restore_parts(optimizer: Any, tensors: Mapping[str, Tensor]) -> None:
    state = optimizer.state_dict()
    state["fp32_flat_groups"] = [tensors[f"{_PART}{index}"] for index in range(len(state["fp32_flat_groups"]))]
    state["optimizer_state_dict"] = _with_moments(state["optimizer_state_dict"], tensors)
    # It looks for its own among those of all ranks.
    optimizer.load_state_dict([state] * distributed.get_world_size())
    # Weights that every rank has whole are whole again only after this.
    optimizer.checkpoint_event_epilogue()


def _restore_moments(optimizer: Any, tensors: Mapping[str, Tensor]) -> None:
    optimizer.load_state_dict(_with_moments(optimizer.state_dict(), tensors))


def _moments(optimizer_state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        f"{_OPTIMIZER}{index}/{name}": value for index, state in optimizer_state["state"].items() for name, value in state.items()
    }


def _with_moments(optimizer_state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(_OPTIMIZER):
            index, name = key.removeprefix(_OPTIMIZER).split("/")
            state.setdefault(int(index), {})[name] = value
    # Its numbers are the configuration's, and the learning rate is set before every step.
    return {"state": state, "param_groups": optimizer_state["param_groups"]}


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


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Under ZeRO they are views into one long tensor, which safetensors would refuse as shared memory.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
