"""Checkpoints as the training process writes them, without training."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def write_checkpoint(directory: Path, weights: Mapping[str, np.ndarray] | None = None) -> Path:
    """`shared.safetensors` with these trained weights, by the names of the model, beside moments of the optimizer."""
    directory.mkdir(parents=True)
    if weights is None:
        weights = {f"{LAYER}.lora_{side}.default.weight": np.ones((2, 2), np.float32) for side in "AB"}
    shared = {f"weight/model.{name}": value for name, value in weights.items()}
    save_file({**shared, "optimizer/0/exp_avg": np.zeros((3,), np.float32)}, directory / "shared.safetensors")
    return directory
