"""LoRA adapters that are two matrices for some linear layers and nothing else, read without peft; used by the adapters.

peft puts a module of its own into the model for each matrix and walks over all of them many times, which takes a second for an
adapter of a few megabytes. Whatever is not as plain as this is left to it, and so is whatever does not fit, for it to refuse.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import torch
from peft import LoraConfig
from safetensors.torch import load_file

_FREE = {
    *("r", "lora_alpha", "use_rslora", "lora_dropout", "target_modules", "init_lora_weights", "inference_mode"),
    *("task_type", "peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
}
"""Fields of an adapter's configuration that are taken into account, or play no part in answering."""
_PLAIN_BEGINNINGS = (True, False, "gaussian")
"""Values of `init_lora_weights` that leave the base model as it is."""


class Matrices(NamedTuple):
    """Of one layer."""

    a: torch.Tensor
    """[ranks, inputs]"""
    b: torch.Tensor
    """[ranks, outputs], with its scaling."""


def read_plain(directory: pathlib.Path, config: LoraConfig, layers: Mapping[str, Any]) -> dict[Any, Matrices] | None:
    """The matrices of each layer that has some, of the model's `layers` by path; None = peft has to look at it.

    Raises ValueError when a number is not finite, OSError and SafetensorError.
    """
    paths = _targets(config, frozenset(layers))
    if not paths:
        return None
    tensors = load_file(directory / "adapter_model.safetensors")
    found = {path: pair for path in paths if (pair := _pair(tensors, path, layers[path], config.r))}
    if not len(tensors) / 2 == len(found) == len(paths):
        return None
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise ValueError("its weights are not finite")
    scaling = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    # Copies, since what was loaded keeps the whole file mapped.
    return {layers[path]: Matrices(a.to(torch.float32, copy=True), b.float().T * scaling) for path, (a, b) in found.items()}


def _targets(config: LoraConfig, paths: Set[str]) -> set[str]:
    """Which of `paths` the adapter is for; empty = it is not plain, or for others, too."""
    given, usual = dataclasses.asdict(config), dataclasses.asdict(LoraConfig())
    names = config.target_modules
    if any(given[field] != usual[field] for field in usual.keys() - _FREE) or not isinstance(names, set):
        return set()
    if config.init_lora_weights not in _PLAIN_BEGINNINGS:
        return set()
    by_name = {name: {path for path in paths if f".{path}".endswith(f".{name}")} for name in names}
    return set().union(*by_name.values()) if all(by_name.values()) else set()


def _pair(tensors: Mapping[str, torch.Tensor], path: str, layer: Any, rank: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    a, b = (tensors.get(f"base_model.model.{path}.lora_{name}.weight") for name in "AB")
    if a is None or b is None or not (a.is_floating_point() and b.is_floating_point()):
        return None
    has_shape = (a.shape, b.shape) == ((rank, layer.in_features), (layer.out_features, rank))
    return (a, b) if has_shape else None
