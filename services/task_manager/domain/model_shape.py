"""The measures of a model: from its config.json, or guessed from its size; used to estimate memory."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

# Models of one layout grow in width more than in depth: hidden = 0.05 x sqrt(parameters) and about 32 layers hold within a
# third from 135 million (576, 30) over 1.5 billion (1,536, 28) to 7 billion (4,096, 32).
_HIDDEN_PER_ROOT = 0.05
_LAYERS = 32
_INTERMEDIATE_PER_HIDDEN = 8 / 3
_VOCABULARY = 64_000


@dataclasses.dataclass(frozen=True, slots=True)
class ModelShape:
    """Widths in numbers, not bytes."""

    layers: int
    hidden: int
    intermediate: int
    key_value: int
    """Width of keys, and of values."""
    vocabulary: int
    family: str = "llama"
    """`model_type` of transformers."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ModelShape | None":
        """Of a config.json of transformers, Llama-like; None when it lacks a number."""
        text = config.get("text_config") or config
        names = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size", "num_attention_heads")
        numbers = [_positive(text.get(name), 0) for name in names] if isinstance(text, Mapping) else [0]
        if not all(numbers):
            return None
        layers, hidden, intermediate, vocabulary, heads = numbers
        head_width, key_value_heads = text.get("head_dim"), text.get("num_key_value_heads")
        key_value = _positive(key_value_heads, heads) * _positive(head_width, hidden // heads)
        return cls(layers, hidden, intermediate, key_value, vocabulary, str(text.get("model_type", "")))

    @classmethod
    def guessed(cls, parameter_count: int) -> "ModelShape":
        """Of a Llama-like model of that size."""
        hidden = max(1, round(_HIDDEN_PER_ROOT * math.sqrt(parameter_count)))
        return cls(_LAYERS, hidden, round(_INTERMEDIATE_PER_HIDDEN * hidden), hidden, _VOCABULARY)

    def tuned_layers(self, last_layers: int | None) -> int:
        """Of the layers those that get adapters, when only the last so many do; 0 or None = all."""
        return min(last_layers or self.layers, self.layers)

    def adapter_parameters(self, rank: int, target_modules: Iterable[str], last_layers: int | None = None) -> int:
        """Numbers in a LoRA adapter on modules with the names of Llama; other names count as the widest module."""
        hidden, intermediate, key_value = self.hidden, self.intermediate, self.key_value
        widths = {
            "q_proj": 2 * hidden,
            "k_proj": hidden + key_value,
            "v_proj": hidden + key_value,
            "o_proj": 2 * hidden,
            "gate_proj": hidden + intermediate,
            "up_proj": hidden + intermediate,
            "down_proj": hidden + intermediate,
        }
        wanted = set(target_modules)
        chosen = widths.values() if "all-linear" in wanted else [widths.get(name, hidden + intermediate) for name in wanted]
        return self.tuned_layers(last_layers) * rank * sum(chosen)

    def adapter_inputs(self, target_modules: Iterable[str]) -> int:
        """Numbers that the adapters of a layer read of a token, counted once for each adapter."""
        wanted = set(target_modules)
        widths = dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"), self.hidden)
        widths["down_proj"] = self.intermediate
        return sum(widths.values() if "all-linear" in wanted else (widths.get(name, self.intermediate) for name in wanted))


def _positive(number: object, default: int) -> int:
    return number if type(number) is int and number > 0 else default
