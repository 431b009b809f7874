"""A model of the Llama family as one GGUF file, and back; used by the export.

Source of names and layout: the specification of GGUF, and what llama.cpp reads for the architecture `llama`.
"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from services.common.errors import ServiceError
from services.trainer.training.exporting import gguf_vocabulary

_ARCHITECTURE = gguf.MODEL_ARCH.LLAMA
_TYPES = {
    "F32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "F16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "Q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
_Q8_0_BLOCK = 32


def write(model: Any, files: Path, path: Path, kind: str, *, name: str) -> None:
    """Writes `model`, a LlamaForCausalLM with fp32 weights, with tokenizer and chat template from the directory `files`.

    Raises ServiceError EXPORT_UNSUPPORTED for what has no place in the format.
    """
    require_fit(model)
    quantization, file_type = _TYPES[kind]
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[_ARCHITECTURE])
    try:
        writer.add_name(name)
        writer.add_file_type(file_type)
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_shape(writer, model.config)
        gguf_vocabulary.add(writer, files, model.config)
        _add_tensors(writer, model, quantization)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def file_name(kind: str) -> str:
    """Readers of the registry tell the type by it."""
    return f"model-{kind}.gguf"


def read(path: Path) -> Any:
    """The model in a GGUF file as transformers reads it, fp32, in evaluation mode."""
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


def require_fit(model: Any) -> None:
    """Raises ServiceError EXPORT_UNSUPPORTED for a model that the format, as it is written here, could not tell."""
    config = model.config
    if type(model).__name__ != "LlamaForCausalLM":
        raise _unsupported(f"the model is a {type(model).__name__}; only LlamaForCausalLM is written as GGUF")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise _unsupported(f"its positions are scaled by {rope['rope_type']}, which is not written yet")
    if config.hidden_act != "silu":
        raise _unsupported(f"its activation is {config.hidden_act}; the format means silu")


def permuted(weights: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of a query or key projection [heads x size, ...] in the order of llama.cpp: both halves of a head interleaved."""
    size = weights.shape[0] // heads
    halves = weights.reshape(heads, 2, size // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def _add_shape(writer: GGUFWriter, config: Any) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(head_size)
    if head_size != config.hidden_size // config.num_attention_heads:
        writer.add_key_length(head_size)
        writer.add_value_length(head_size)
    writer.add_vocab_size(config.vocab_size)


def _add_tensors(writer: GGUFWriter, model: Any, quantization: GGMLQuantizationType) -> None:
    names = gguf.get_tensor_name_map(_ARCHITECTURE, model.config.num_hidden_layers)
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise _unsupported(f"its tensor {name} has no name there")
        values = tensor.detach().to(torch.float32).numpy()
        if (count := heads.get(name.split(".")[-2])) is not None:
            values = permuted(values, count)
        writer.add_tensor(target, *_encoded(values, quantization))


def _encoded(values: NDArray[Any], quantization: GGMLQuantizationType) -> tuple[NDArray[Any], None, GGMLQuantizationType]:
    """Vectors stay fp32, and so do matrices whose rows do not fill the blocks."""
    fits = quantization is not GGMLQuantizationType.Q8_0 or values.shape[-1] % _Q8_0_BLOCK == 0
    chosen = quantization if values.ndim > 1 and fits else GGMLQuantizationType.F32
    return np.ascontiguousarray(gguf.quants.quantize(values, chosen)), None, chosen


def _unsupported(cause: str) -> ServiceError:
    return ServiceError("EXPORT_UNSUPPORTED", f"the model cannot be written as GGUF: {cause}")
