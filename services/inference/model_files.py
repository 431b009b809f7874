"""What a model directory says about itself without its weights being loaded; used by the registry."""

import json
import math
import pathlib
from collections.abc import Iterator, Sequence

from safetensors import SafetensorError, safe_open

from services.common.errors import ServiceError

_FP32_BYTES = 4
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")


def fp32_bytes(directory: pathlib.Path, *, broken: str) -> int:
    """Bytes that all tensors of the directory's safetensors files take as fp32; raises ServiceError with the reason `broken`."""
    return sum(math.prod(shape) for _, shape in tensors(directory, broken=broken)) * _FP32_BYTES


def tensors(directory: pathlib.Path, *, broken: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Type (`F32`, `BF16`, …) and shape of every tensor; raises as `fp32_bytes` does."""
    for file in sorted(directory.glob("*.safetensors")):
        yield from _tensors(file, broken)


def context_length(directory: pathlib.Path) -> int:
    """Tokens the base model can attend to; raises ServiceError (BASE_MODEL_UNUSABLE)."""
    return _configured(directory, _CONTEXT_KEYS, "context length")


def vocabulary_size(directory: pathlib.Path) -> int:
    """Tokens the base model has a logit for; raises ServiceError (BASE_MODEL_UNUSABLE)."""
    return _configured(directory, ("vocab_size",), "vocabulary size")


def _configured(directory: pathlib.Path, keys: Sequence[str], what: str) -> int:
    """The first that is a number above zero, of the model itself or of its part for texts."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        values = [part.get(key) for part in (config, config.get("text_config") or {}) for key in keys]
    except (OSError, ValueError, AttributeError) as error:
        raise ServiceError("BASE_MODEL_UNUSABLE", f"config.json of the base model cannot be read: {error!r}") from error
    if found := next((value for value in values if isinstance(value, int) and value > 0), None):
        return found
    raise ServiceError("BASE_MODEL_UNUSABLE", f"config.json of the base model tells no {what}: it has none of {', '.join(keys)}")


def _tensors(file: pathlib.Path, broken: str) -> list[tuple[str, tuple[int, ...]]]:
    try:
        with safe_open(file, framework="np") as opened:
            found = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118 (not a mapping)
            return [(str(each.get_dtype()), tuple(each.get_shape())) for each in found]
    except (OSError, SafetensorError) as error:
        raise ServiceError(broken, f"{file.name} is not a safetensors file: {error}") from error
