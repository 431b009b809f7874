"""What the files of a base model say about it: family, parameters and context length; used when the server reads them itself."""

import dataclasses
import math
from collections.abc import Mapping

import msgspec

from services.common.errors import InvalidArgument, Violation
from services.storage.base_model import BaseModelDraft
from services.storage.request_fields import text_violations
from services.storage.safetensors_header import Tensor

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")
_MAX_CONTEXT = 2**40


def parameters(tensors: Mapping[str, Tensor]) -> int:
    """Numbers in all tensors of a file."""
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def with_facts(draft: BaseModelDraft, config: Mapping[str, msgspec.Raw], parameter_count: int) -> BaseModelDraft:
    """The draft with what it leaves open; raises InvalidArgument when config.json does not tell that either."""
    context = draft.context_length or next(filter(None, (_number(config, key) for key in _CONTEXT_KEYS)), 0)
    if not context:
        raise InvalidArgument(
            Violation("header.context_length", f"is required: config.json has none of {', '.join(_CONTEXT_KEYS)}")
        )
    return dataclasses.replace(
        draft,
        family=draft.family or _text(config, "model_type"),
        parameter_count=draft.parameter_count or parameter_count,
        context_length=context,
    )


def _number(config: Mapping[str, msgspec.Raw], key: str) -> int:
    """A number above zero; 0 = there is none."""
    value = msgspec.json.decode(config.get(key, b"0"))
    return value if type(value) is int and 0 < value < _MAX_CONTEXT else 0


def _text(config: Mapping[str, msgspec.Raw], key: str) -> str:
    """A text as a field takes it; empty = there is none."""
    value = msgspec.json.decode(config.get(key, b'""'))
    return value if isinstance(value, str) and not [*text_violations(value, key, required=False)] else ""
