"""A checkpoint as something that can answer: its trained weights alone, as an adapter or a whole model; used by the resolver.

A checkpoint holds what training continues with, see services/trainer: `shared.safetensors` with the trained weights under the
names of the training process, beside the optimizer's moments, which are left where they are.
"""

import dataclasses
import json
import pathlib
import shutil
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from services.common.bundles import Bundle
from services.common.errors import ServiceError

_SHARED = "shared.safetensors"
# Checkpoints name weights as the module that holds model and objective does.
_PREFIX = "weight/model."


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How the weights of a checkpoint were trained."""

    method: str
    lora: Mapping[str, Any] | None
    """Fields of peft's LoraConfig; None = all weights were."""
    last_layers: int = 0
    """Only so many layers at the end of the base model have adapters; 0 = all."""


def servable(checkpoint: Bundle, recipe: Recipe, base: Bundle) -> Bundle:
    """The checkpoint's weights in the layout of peft or transformers, written beside its files once.

    Raises ServiceError: CHECKPOINT_UNSERVABLE, ARTIFACT_UNUSABLE.
    """
    if recipe.method == "CLASSIFICATION":
        raise ServiceError("ARTIFACT_UNUSABLE", f"{checkpoint.name} does not load: it tells labels apart and cannot chat")
    target = checkpoint.directory.with_name(f"{checkpoint.directory.name}-servable")
    if not target.is_dir():
        try:
            weights = _trained(checkpoint)
        except (OSError, SafetensorError) as error:
            raise ServiceError("ARTIFACT_UNUSABLE", f"{checkpoint.name}: {_SHARED} cannot be read: {error}") from error
        _write_whole(target, lambda work: _write(work, weights, recipe, base))
    return dataclasses.replace(checkpoint, directory=target, is_adapter=recipe.lora is not None)


def _trained(checkpoint: Bundle) -> dict[str, Any]:
    with safe_open(checkpoint.directory / _SHARED, framework="np") as tensors:
        names = [name for name in tensors.keys() if name.startswith(_PREFIX)]  # noqa: SIM118 (not a mapping)
        weights = {name.removeprefix(_PREFIX): tensors.get_tensor(name) for name in names}
    if not weights:
        message = f"{checkpoint.name} was cut over the processes of its run (ZeRO stage 3) and holds no whole weights"
        raise ServiceError("CHECKPOINT_UNSERVABLE", message)
    return weights


def _write(work: pathlib.Path, weights: Mapping[str, Any], recipe: Recipe, base: Bundle) -> None:
    if recipe.lora is None:
        for file in base.directory.iterdir():
            if file.is_file() and ".safetensors" not in file.name:
                shutil.copyfile(file, work / file.name)
        save_file(dict(weights), work / "model.safetensors", metadata={"format": "pt"})
        return
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "inference_mode": True, **recipe.lora}
    if recipe.last_layers:
        config |= _some_layers(weights)
    (work / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({_as_saved(name): value for name, value in weights.items()}, work / "adapter_model.safetensors")


def _some_layers(weights: Mapping[str, Any]) -> dict[str, Any]:
    """What peft wants to know when not all layers have adapters: their numbers, and modules by name."""
    paths = [name.split(".lora_", 1)[0].split(".") for name in weights if ".lora_" in name]
    layers = {int(number) for path in paths for number in list(filter(str.isdigit, path))[:1]}
    return {"target_modules": sorted({path[-1] for path in paths}), "layers_to_transform": sorted(layers)}


def _as_saved(name: str) -> str:
    """peft's name of a weight in a file: without the adapter's name, which is `default` while it is trained."""
    return name.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector").replace(".default.", ".")


def _write_whole(target: pathlib.Path, write: Callable[[pathlib.Path], None]) -> None:
    work = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    work.mkdir()
    try:
        write(work)
        work.rename(target)
    except OSError:
        # Another request or process was faster; what it wrote is the same.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
