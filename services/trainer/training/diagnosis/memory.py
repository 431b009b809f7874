"""How much memory a micro-batch takes; a cheap estimate, used to decide whether a rehearsal pays."""

from dataclasses import dataclass
from typing import Any, Self

_BYTES = 4
# What backward and the allocator add to what forward keeps; measured for the plan of a task.
_OVERHEAD = 1.5
# Logits of a supervised token: themselves, their logarithms and their gradients.
_LOGITS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a decoder."""

    layers: int
    """Those in memory at once in a forward pass."""
    hidden: int
    key_value: int
    intermediate: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any, last_layers: int = 0) -> Self:
        """From a configuration of transformers; `last_layers` = a derivative is taken of so many alone, 0 = of all."""
        heads = getattr(config, "num_attention_heads", 1)
        key_value_heads = getattr(config, "num_key_value_heads", heads)
        intermediate = getattr(config, "intermediate_size", 4 * config.hidden_size)
        key_value = config.hidden_size * key_value_heads // heads
        layers = config.num_hidden_layers
        # Of the others there is one at a time.
        held = min(last_layers + 1, layers) if last_layers else layers
        return cls(held, config.hidden_size, key_value, intermediate, config.vocab_size)


def working_bytes(shape: Shape, tokens: int, targets: int) -> int:
    """What forward and backward of a micro-batch need beside the weights; `tokens` with padding, in fp32.

    A layer keeps ten times its width, keys and values twice, and the inner width of the feed-forward part four times.
    """
    kept = shape.layers * (10 * shape.hidden + 2 * shape.key_value + 4 * shape.intermediate)
    return round(_BYTES * (tokens * kept * _OVERHEAD + targets * shape.vocabulary * _LOGITS))
