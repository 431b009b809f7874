"""What a model directory says about itself without its weights being loaded; used by the registry."""

import json
import math
import pathlib
from collections.abc import Iterator

from safetensors import SafetensorError, safe_open

from services.common.errors import ServiceError

_FP32_BYTES = 4


def fp32_bytes(directory: pathlib.Path, *, broken: str) -> int:
    """Bytes that all tensors of the directory's safetensors files take as fp32; raises ServiceError with the reason `broken`."""
    return sum(math.prod(shape) for _, shape in tensors(directory, broken=broken)) * _FP32_BYTES


def tensors(directory: pathlib.Path, *, broken: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Type (`F32`, `BF16`, …) and shape of every tensor; raises as `fp32_bytes` does."""
    for file in sorted(directory.glob("*.safetensors")):
        yield from _tensors(file, broken)


def context_length(directory: pathlib.Path) -> int:
    """Tokens the base model can attend to; raises ServiceError (BASE_MODEL_UNUSABLE)."""
    return _configured(directory, "max_position_embeddings", "context length")


def vocabulary_size(directory: pathlib.Path) -> int:
    """Tokens the base model has a logit for; raises ServiceError (BASE_MODEL_UNUSABLE)."""
    return _configured(directory, "vocab_size", "vocabulary size")


def _configured(directory: pathlib.Path, key: str, what: str) -> int:
    try:
        return int(json.loads((directory / "config.json").read_text(encoding="utf-8"))[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ServiceError("BASE_MODEL_UNUSABLE", f"config.json of the base model tells no {what}: {error!r}") from error


def _tensors(file: pathlib.Path, broken: str) -> list[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(file, framework="np") as opened:
            found = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118 (not a mapping)
            return [(str(each.get_dtype()), tuple(each.get_shape())) for each in found]
    except (OSError, SafetensorError) as error:
        raise ServiceError(broken, f"{file.name} is not a safetensors file: {error}") from error
