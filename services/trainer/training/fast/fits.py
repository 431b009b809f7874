"""Whether the fast path computes what a model's stock path does, exactly in fp32; asked once when a run starts."""

from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from services.trainer.training.config import TrainConfig
from services.trainer.training.fast.projection import ADAPTER

# By name: importing the families that are not there takes its time.
_FAMILIES = ("transformers.models.llama.modeling_llama.LlamaModel", "transformers.models.qwen2.modeling_qwen2.Qwen2Model")
# Angles that do not depend on how long the longest sequence of a batch is.
_ROTATIONS = ("default", "linear", "llama3", "yarn")
_CUTS_WEIGHTS = 3
_FROZEN = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Format of the weights by precision. With bf16 they are rounded for good, so they cannot be trained."""


def fits(model: Any, config: TrainConfig) -> str:
    """Why the fast path cannot stand in for `model` (of transformers, a peft adapter in it or not); empty when it can."""
    numbers, decoder = config.hyperparameters, model.get_decoder()
    frozen, shape = _FROZEN.get(numbers.precision or ""), decoder.config
    network = _described(decoder, frozen)
    checks = (
        (_is_known(decoder), f"the family {shape.model_type} is not known to it"),
        (next(decoder.parameters()).device.type == "cpu", "it is for a CPU"),
        (frozen is not None, f"it computes in fp32 or bf16, not in {numbers.precision}"),
        (frozen == torch.float32 or config.has_adapter, "all weights are trained, which it does in fp32 alone"),
        (numbers.zero_stage < _CUTS_WEIGHTS, f"ZeRO stage {numbers.zero_stage} gathers weights module by module"),
        (network == "", network),
        (_has_plain_head(model, frozen), "the output head is not a plain matrix"),
    )
    return next((reason for holds, reason in checks if not holds), "")


def _is_known(decoder: Any) -> bool:
    kind = type(decoder)
    return f"{kind.__module__}.{kind.__qualname__}" in _FAMILIES


def _described(decoder: Any, frozen: torch.dtype | None) -> str:
    """What is unusual about a Llama or Qwen2."""
    if not _is_known(decoder):
        return ""
    shape = decoder.config
    rotation = (shape.rope_parameters or {}).get("rope_type", "default")
    if shape.hidden_act != "silu":
        return f"the activation {shape.hidden_act} is not known to it"
    if shape.attention_dropout:
        return "attention has dropout"
    if any(kind != "full_attention" for kind in getattr(shape, "layer_types", None) or ()):
        return "attention slides over a window"
    if rotation not in _ROTATIONS:
        return f"rotary positions of the type {rotation} depend on the batch"
    linear = (module for layer in decoder.layers for module in _projections(layer))
    return next((reason for module in linear if (reason := _unusual(module, frozen))), "")


def _has_plain_head(model: Any, frozen: torch.dtype | None) -> bool:
    """A classifier has no head of this kind; its own is left to it."""
    head = model.get_output_embeddings()
    return head is None or (type(head) is nn.Linear and head.bias is None and head.weight.dtype == frozen)


def _projections(layer: Any) -> tuple[Any, ...]:
    attention, mlp = layer.self_attn, layer.mlp
    return (
        *(attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj),
        *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
    )


def _unusual(module: Any, frozen: torch.dtype | None) -> str:
    """What is unusual about a linear layer."""
    if isinstance(module, LoraLinear):
        special = module.merged or any(module.use_dora.values()) or any(module.lora_bias.values())
        if special or list(module.lora_A) != [ADAPTER]:
            return "an adapter is not a plain one of two matrices"
        module = module.base_layer
    if type(module) is not nn.Linear or module.weight.dtype != frozen:
        return f"a linear layer is a {type(module).__name__} of {module.weight.dtype}"
    return ""
