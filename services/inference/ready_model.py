"""What a model that can answer knows about text, read from its files; made by the registry."""

import dataclasses
import pathlib

from services.common.rendering import Renderer, RenderError
from services.common.rendering.files import read_json
from services.common.rendering.template import read_template
from services.inference import model_files
from services.inference.guides import Vocabulary
from services.inference.tool_text import speaks_tools


@dataclasses.dataclass(frozen=True, slots=True)
class ReadyModel:
    """A model that can answer now."""

    base: str
    adapter: str | None
    renderer: Renderer
    end_of_turn_ids: frozenset[int]
    context_length: int
    vocabulary_size: int
    vocabulary: Vocabulary
    speaks_tools: bool


def ready_base(name: str, directory: pathlib.Path) -> ReadyModel:
    """The base model of this name; raises RenderError and ServiceError (BASE_MODEL_UNUSABLE)."""
    renderer = Renderer.from_directory(directory)
    size, ends = model_files.vocabulary_size(directory), _ends(renderer)
    vocabulary = Vocabulary(directory, size=size, ends=ends)
    context = model_files.context_length(directory)
    return ReadyModel(name, None, renderer, ends, context, size, vocabulary, speaks_tools(renderer))


def ready_adapter(base: ReadyModel, name: str, directory: pathlib.Path) -> ReadyModel:
    """An adapter on `base`: with a tokenizer and a chat template of its own if it brings both, as one from elsewhere may.

    It was trained with these. A tokenizer with tokens that the base model does not have is left alone. Raises RenderError.
    """
    ready = dataclasses.replace(base, adapter=name)
    renderer = Renderer.from_directory(directory) if _brings_words(directory) else base.renderer
    if renderer is base.renderer or renderer.token_count > base.vocabulary_size:
        return ready
    # What ends a text beside the token that a tokenizer names, the base model's files say alone.
    ends = _ends(renderer) | base.renderer.stop_ids
    vocabulary = Vocabulary(directory, size=base.vocabulary_size, ends=ends)
    return dataclasses.replace(
        ready, renderer=renderer, end_of_turn_ids=ends, vocabulary=vocabulary, speaks_tools=speaks_tools(renderer)
    )


def _brings_words(directory: pathlib.Path) -> bool:
    has_template = read_template(directory, read_json(directory / "tokenizer_config.json")) is not None
    return has_template and (directory / "tokenizer.json").is_file()


def _ends(renderer: Renderer) -> frozenset[int]:
    try:
        return renderer.end_of_turn_ids
    except RenderError:
        # Without a usable chat template texts can still be continued; a conversation is refused when it is rendered.
        return renderer.stop_ids
