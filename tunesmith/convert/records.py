"""What readers give and shapes take: rows with their place, texts of rows, messages; used by every module of the package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a file as it stands there. `number` is 1-based, of the line where it begins or of the row."""

    number: int
    values: Any
    problem: str = ""
    """Why it could not be read; `values` is None then."""


class Unconvertible(Exception):
    """A row that is not what its shape promises; says why in a few words."""


def text_of(row: Row, column: str) -> str:
    """The text of a column that must have one.

    Raises:
        Unconvertible: it is missing, empty, or of another type.
    """
    text = optional_text(row, column)
    if not text:
        raise Unconvertible(f"{column} is empty" if column in row else f"{column} is missing")
    return text


def optional_text(row: Row, column: str) -> str:
    """The text of a column, empty when there is none; numbers become text.

    Raises:
        Unconvertible: it is of another type.
    """
    value = row.get(column)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if value is None or isinstance(value, str):
        return value or "" if value and value.strip() else ""
    raise Unconvertible(f"{column} is not a text")


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    """Messages of (role, content), without those that have no content."""
    return {"messages": [{"role": role, "content": content} for role, content in turns if content]}


def with_system(row: dict[str, Any], system: str) -> dict[str, Any]:
    """The row with `system` in front of every conversation that has no system message."""
    if not system:
        return row
    if "input" in row:
        return {**row, "input": with_system(row["input"], system)}
    messages = row.get("messages", [])
    if not messages or messages[0].get("role") in ("system", "developer"):
        return row
    return {**row, "messages": [{"role": "system", "content": system}, *messages]}
