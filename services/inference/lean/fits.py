"""Whether the lean forward pass computes what a model's own does; asked once, when a base model is loaded."""

from typing import Any

from torch import nn

from services.inference.lean.layer import projections

# By name: importing the families that are not there takes its time.
_FAMILIES = (
    "transformers.models.llama.modeling_llama.LlamaForCausalLM",
    "transformers.models.qwen2.modeling_qwen2.Qwen2ForCausalLM",
)
# Angles that do not depend on how long the longest row of a batch is.
_ROTATIONS = ("default", "linear", "llama3", "yarn")


def fits(model: Any) -> bool:
    """Whether LeanNetwork may stand in for a model of transformers that no adapter has been put into."""
    kind, shape = type(model), model.config
    if f"{kind.__module__}.{kind.__qualname__}" not in _FAMILIES:
        return False
    rotation = (shape.rope_parameters or {}).get("rope_type", "default")
    linear = [getattr(parent, name) for layer in model.get_decoder().layers for parent, name in projections(layer)]
    return (
        shape.hidden_act == "silu"
        and rotation in _ROTATIONS
        and all(kind == "full_attention" for kind in getattr(shape, "layer_types", None) or ())
        and all(type(module) is nn.Linear for module in (*linear, model.lm_head))
    )
