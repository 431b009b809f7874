"""The chat template of a model directory, compiled as transformers compiles it; used by the renderer."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.common.rendering.budget import Budget, TemplateLimit
from services.common.rendering.conversation import Conversation
from services.common.rendering.error import RenderError, unusable_row
from services.common.rendering.sandbox import Sandbox, TemplateRefusal
from services.common.rendering.trace import LooksAhead, Talk, Traced


class ChatTemplate:
    """Messages to text. `special_tokens` are the names a template may use, such as `bos_token`."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile `source`; raises RenderError."""
        self._sandbox = Sandbox()
        self._special_tokens = dict(special_tokens)
        try:
            self._template = self._sandbox.compiled(source)
        except TemplateLimit as limit:
            raise RenderError(f"the chat template is refused: {limit}") from limit
        except Exception as error:  # a parser of foreign text: too deep, too long, not a template
            raise RenderError(f"the chat template does not compile: {_named(error)}") from error

    def text(self, conversation: Conversation, *, add_generation_prompt: bool) -> str:
        """The whole conversation as text. Raises RenderError; DATASET_UNUSABLE when the template does not take the messages."""
        return "".join(self._pieces(conversation, None, add_generation_prompt=add_generation_prompt))

    def traced(self, conversation: Conversation, *, add_generation_prompt: bool) -> Traced | None:
        """The same text, and where each message begins; None when the template does not simply go through the messages.

        Raises as `text` does, or leaves that to `text`.
        """
        talk = Talk(conversation.messages)
        pieces = []
        try:
            for piece in self._pieces(conversation, talk, add_generation_prompt=add_generation_prompt):
                pieces.append(piece)
                talk.written += len(piece)
            return talk.traced("".join(pieces))
        except (LooksAhead, RenderError):
            return None

    def _pieces(self, conversation: Conversation, talk: Talk | None, *, add_generation_prompt: bool) -> Iterator[str]:
        self._sandbox.budget = Budget(conversation.character_count)
        self._sandbox.talk = talk
        try:
            yield from self._template.generate(
                messages=conversation.messages if talk is None else talk,
                tools=conversation.tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except LooksAhead:
            raise
        except TemplateRefusal as refusal:
            raise unusable_row(f"the chat template refuses the messages: {refusal}") from refusal
        except TemplateLimit as limit:
            raise RenderError(f"the chat template is stopped: {limit}") from limit
        except Exception as error:  # foreign code: it may raise whatever Python can
            raise RenderError(f"the chat template fails: {_named(error)}") from error


class MissingTemplate:
    """Stands in for a template that is missing or broken: a model to be trained on plain text alone needs none."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def text(self, conversation: Conversation, *, add_generation_prompt: bool) -> str:
        """Raises RenderError."""
        raise RenderError(self._problem)

    def traced(self, conversation: Conversation, *, add_generation_prompt: bool) -> Traced | None:
        """Raises RenderError."""
        raise RenderError(self._problem)


Template = ChatTemplate | MissingTemplate


def compiled(source: str | None, special_tokens: Mapping[str, str], model: str) -> Template:
    """The template of a model; `model` is its name for messages."""
    if source is None:
        return MissingTemplate(f"{model} has no chat template: neither chat_template.jinja nor tokenizer_config.json has one")
    try:
        return ChatTemplate(source, special_tokens)
    except RenderError as error:
        return MissingTemplate(f"{model}: {error.message}")


def read_template(directory: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    """The source of the template: chat_template.jinja first, then tokenizer_config.json; None when there is neither."""
    path = directory / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):
        # Models with several templates list them by name; plain conversations use the one called default.
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    return template if isinstance(template, str) else None


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
