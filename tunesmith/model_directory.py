"""What a directory in Hugging Face's layout says about its model; used by `tunesmith model add`."""

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any

from tunesmith.errors import InvalidArgument

_HEADER_BYTES = 8
_MAX_HEADER_BYTES = 100 * 2**20
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """What registering a base model needs to know besides its files."""

    family: str
    """`model_type` of config.json, for example `llama`."""
    parameter_count: int
    context_length: int
    """In tokens."""


def read_model_directory(directory: Path) -> ModelFacts:
    """From config.json and the headers of the weights; no weight is read.

    Raises:
        InvalidArgument: MODEL_DIRECTORY_UNUSABLE, naming the file.
    """
    config = _config(directory / "config.json")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        raise _unusable(directory, "has no *.safetensors file", "Save the model with safe_serialization=True.")
    context = next((config[key] for key in _CONTEXT_KEYS if isinstance(config.get(key), int)), 0)
    if context < 1:
        raise _unusable(directory / "config.json", f"tells no context length: none of {', '.join(_CONTEXT_KEYS)} is there")
    return ModelFacts(str(config.get("model_type", "")), sum(map(_parameters, weights)), context)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _unusable(path, "is not there", "Name the directory that holds config.json and the weights.") from None
    except ValueError as error:
        raise _unusable(path, f"is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise _unusable(path, "is not a JSON object")
    return config


def _parameters(path: Path) -> int:
    """Numbers in all tensors of a file: https://github.com/huggingface/safetensors, section "Format"."""
    with path.open("rb") as file:
        length = file.read(_HEADER_BYTES)
        if len(length) < _HEADER_BYTES or (size := struct.unpack("<Q", length)[0]) > _MAX_HEADER_BYTES:
            raise _unusable(path, "is not a safetensors file")
        text = file.read(size)
    try:
        header = json.loads(text)
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _unusable(path, "is not a safetensors file: its header is damaged") from None


def _unusable(path: Path, what: str, hint: str = "") -> InvalidArgument:
    hint = hint or "Save the model again with save_pretrained."
    return InvalidArgument(f"{path} {what}", reason="MODEL_DIRECTORY_UNUSABLE", hint=hint, error_class="user")
