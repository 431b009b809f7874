"""Tools that a model may call, calls, and their validation; free of the wire format, built by the conversion."""

import dataclasses
import enum
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from services.common.errors import Violation

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_TOOLS = 64
_MAX_SCHEMA_BYTES = 64 * 1024


class Mode(enum.Enum):
    """Whether tools are called: the model decides, never, always."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclasses.dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model asks for; `arguments` is JSON text of an object."""

    id: str
    name: str
    arguments: str

    def written(self) -> dict[str, Any]:
        """In OpenAI's form, as the renderer takes it."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclasses.dataclass(frozen=True, slots=True)
class Tool:
    """What may be called; `parameters` is the JSON text of its arguments' schema, empty = it takes none."""

    name: str
    description: str = ""
    parameters: str = ""
    strict: bool = False

    @property
    def schema(self) -> Mapping[str, Any]:
        """The schema of the arguments; raises ValueError when it is no JSON object."""
        if len(self.parameters.encode()) > _MAX_SCHEMA_BYTES:
            raise ValueError(f"it is longer than {_MAX_SCHEMA_BYTES:,} bytes")
        return json_object(self.parameters or '{"type": "object", "properties": {}}')

    def declared(self) -> dict[str, Any]:
        """In OpenAI's form, as the renderer takes it."""
        function = {"name": self.name, "description": self.description, "parameters": self.schema}
        return {"type": "function", "function": function}


@dataclasses.dataclass(frozen=True, slots=True)
class ToolChoice:
    """`function` is the name of the tool that is called; empty = `mode` says."""

    mode: Mode = Mode.AUTO
    function: str = ""


AUTO = ToolChoice()


def json_object(text: str) -> Mapping[str, Any]:
    """The object that is written there; raises ValueError."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 (a wrong value, not a wrong type of ours)
    return value


def tool_violations(tools: Sequence[Tool], choice: ToolChoice) -> Iterator[Violation]:
    """What is wrong with the tools and the choice among them."""
    if len(tools) > _MAX_TOOLS:
        yield Violation("tools", f"{len(tools)} tools are more than {_MAX_TOOLS}")
    names = [tool.name for tool in tools]
    for index, tool in enumerate(tools):
        if not _NAME.fullmatch(tool.name):
            yield Violation(f"tools[{index}].name", f"{tool.name[:80]!r} does not match {_NAME.pattern}")
        elif tool.name in names[:index]:
            yield Violation(f"tools[{index}].name", f"{tool.name} is there twice")
        try:
            _ = tool.schema
        except ValueError as error:
            yield Violation(f"tools[{index}].parameters", f"is no JSON Schema of an object: {error}")
    if choice.function and choice.mode is not Mode.AUTO:
        yield Violation("tool_choice", "mode and function exclude each other")
    if choice.function and choice.function not in names:
        yield Violation("tool_choice.function", f"{choice.function[:80]!r} is none of the tools")
    if choice.mode is Mode.REQUIRED and not tools:
        yield Violation("tool_choice.mode", "REQUIRED needs tools")
