"""The chat template of a model directory, compiled as transformers compiles it; used by the renderer.

Templates come with models from anywhere, so they run in Jinja's immutable sandbox.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, Any]


class TemplateRefusal(Exception):
    """The template itself called `raise_exception`: it does not accept these messages."""


class ChatTemplate:
    """Messages to text. `special_tokens` are the names a template may use, such as `bos_token`."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile `source`; raises jinja2.TemplateSyntaxError."""
        self._template = _environment().from_string(source)
        self._special_tokens = dict(special_tokens)

    def text(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """The whole conversation as text. Raises TemplateRefusal and jinja2.TemplateError."""
        return self._template.render(
            messages=[dict(message) for message in messages],
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self._special_tokens,
        )


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


class _GenerationBlocks(Extension):
    """Accepts `{% generation %}` blocks and writes what is in them: the renderer finds the assistant's text without them."""

    tags = {"generation"}  # noqa: RUF012 (the type is Jinja's)

    def parse(self, parser: Parser) -> jinja2.nodes.Node | list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes for HTML, which a model must never see."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateRefusal(message)


def _strftime_now(layout: str) -> str:
    # The one clock in here: templates that print today's date expect the local one, as in transformers.
    return datetime.now().strftime(layout)
