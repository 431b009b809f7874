"""Rows that are Tunesmith's already, in a file that is not: parquet with a column `messages`, CSV with a column `text`."""

from typing import Any

from tunesmith.convert.records import Row, Unconvertible, text_of


def is_chat(row: Row) -> bool:
    """The row has messages."""
    return "messages" in row


def is_preference(row: Row) -> bool:
    """The row has OpenAI's two outputs."""
    return "preferred_output" in row and "non_preferred_output" in row


def is_text(row: Row) -> bool:
    """The row has a text."""
    return "text" in row


def to_chat(row: Row) -> dict[str, Any]:
    """The messages, with tools and label where there are any."""
    if not isinstance(row["messages"], list):
        raise Unconvertible("messages is not a list")
    return {column: _without_nothing(row[column]) for column in ("messages", "tools", "label") if row.get(column) is not None}


def to_preference(row: Row) -> dict[str, Any]:
    """The three columns."""
    return {column: _without_nothing(row.get(column)) for column in ("input", "preferred_output", "non_preferred_output")}


def to_text(row: Row) -> dict[str, Any]:
    """The text."""
    return {"text": text_of(row, "text")}


def _without_nothing(value: Any) -> Any:
    """Parquet fills every absent field of a structure with null."""
    if isinstance(value, dict):
        return {key: _without_nothing(inner) for key, inner in value.items() if inner is not None}
    return [_without_nothing(inner) for inner in value] if isinstance(value, list) else value
