"""How many tokens a base model attends to, for callers of the worker that name no length."""

from pathlib import Path

from services.common.rendering.files import read_json

_DEFAULT_LENGTH = 2048


def default_length(model: Path) -> int:
    """The smaller of 2,048 and the context length in config.json; raises RenderError."""
    context = read_json(model / "config.json").get("max_position_embeddings")
    return min(_DEFAULT_LENGTH, context) if isinstance(context, int) and context > 0 else _DEFAULT_LENGTH
