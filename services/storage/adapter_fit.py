"""Whether a LoRA adapter fits a base model: its configuration against its tensors, and those against the shapes beneath them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from services.common.errors import InvalidArgument, Violation
from services.storage.safetensors_header import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<part>A|B)\.weight")
_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(\.weight)?")
_MAX_RANK = 4096
# Tied to it where a file has no head of its own.
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


class AdapterConfig(msgspec.Struct):
    """What matters here of peft's adapter_config.json."""

    peft_type: str = ""
    task_type: str | None = None
    r: int = 0
    rank_pattern: dict[str, int] | None = None
    megatron_config: Any = None
    auto_mapping: Any = None


def adapter_violations(config: AdapterConfig, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> Iterator[Violation]:
    """Everything wrong with an adapter for a base model whose tensors are `base`; fields are paths of its files."""
    yield from _config_violations(config)
    ranks = {config.r, *(config.rank_pattern or {}).values()}
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        bare = name.removeprefix(_PREFIX)
        if found := _LORA.fullmatch(bare):
            pairs.setdefault(found["module"], {})[found["part"]] = tensor
        elif found := _MAGNITUDE.fullmatch(bare):
            yield from _same_shape(name, tensor.shape, (_shape(base, found["module"] + ".weight") or (0,))[:1])
        else:
            # A layer trained as a whole beside the adapter.
            yield from _same_shape(name, tensor.shape, _shape(base, bare))
    if not pairs:
        yield Violation(WEIGHTS, "holds no LoRA tensors (…lora_A.weight, …lora_B.weight)")
    for module, parts in pairs.items():
        yield from _pair_violations(module, parts, ranks, _shape(base, f"{module}.weight"))


def read_adapter_config(text: bytes) -> AdapterConfig:
    """The configuration; raises InvalidArgument (MODEL_UNFIT) naming what has the wrong type."""
    try:
        return msgspec.json.decode(text, type=AdapterConfig)
    except msgspec.ValidationError as error:
        raise unfit(Violation(CONFIG, str(error))) from error


def unfit(*violations: Violation) -> InvalidArgument:
    """The error for files that are harmless and still of no use."""
    return InvalidArgument(*violations[:20], reason="MODEL_UNFIT")


def _config_violations(config: AdapterConfig) -> Iterator[Violation]:
    if config.peft_type != "LORA":
        yield Violation(CONFIG, f"peft_type is {config.peft_type[:40]!r}; only LORA is taken")
    if config.task_type not in (None, "CAUSAL_LM"):
        yield Violation(CONFIG, f"task_type is {config.task_type[:40]!r}; only CAUSAL_LM is taken")
    for rank in {config.r, *(config.rank_pattern or {}).values()}:
        if not 1 <= rank <= _MAX_RANK:
            yield Violation(CONFIG, f"a rank of {rank} is not within 1 and {_MAX_RANK}")
    # Both have peft import a module by a name from the file.
    for field in ("megatron_config", "auto_mapping"):
        if getattr(config, field) is not None:
            yield Violation(CONFIG, f"{field} asks for a Python module to be imported")


def _pair_violations(
    module: str, parts: Mapping[str, Tensor], ranks: set[int], base: tuple[int, ...] | None
) -> Iterator[Violation]:
    if parts.keys() != {"A", "B"} or any(len(tensor.shape) != 2 for tensor in parts.values()):
        yield Violation(WEIGHTS, f"{module[:120]}: lora_A and lora_B must be there, as matrices")
        return
    (rank, inputs), (outputs, other_rank) = parts["A"].shape, parts["B"].shape
    if rank != other_rank or rank not in ranks:
        told = ", ".join(map(str, sorted(ranks)))
        yield Violation(WEIGHTS, f"{module[:120]}: the ranks are {rank} and {other_rank}, {CONFIG} says {told}")
    yield from _same_shape(module, (outputs, inputs), base)


def _same_shape(name: str, shape: tuple[int, ...], base: tuple[int, ...] | None) -> Iterator[Violation]:
    if base is None:
        yield Violation(WEIGHTS, f"{name[:120]}: the base model has no such layer")
    elif shape != base:
        yield Violation(WEIGHTS, f"{name[:120]}: is for a layer of shape {list(shape)}, the base model's has {list(base)}")


def _shape(base: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    tensor = base.get(name) or (base.get(_EMBEDDING) if name == _HEAD else None)
    return tensor.shape if tensor else None
