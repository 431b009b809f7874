"""The registry of row shapes: how each is recognised and what it becomes; used by the conversion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.convert import alpaca, openai_rows, prompt_completion, sharegpt, trl_preference
from tunesmith.convert.columns import Columns
from tunesmith.convert.records import Row
from tunesmith.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of row. `targets` holds its conversion by name of the format; the first is the default."""

    name: str
    recognises: Callable[[Row], bool]
    targets: Mapping[str, Callable[[Row], dict[str, Any]]]


SHAPES = (
    Shape("chat", openai_rows.is_chat, {"chat": openai_rows.to_chat}),
    Shape("preference", openai_rows.is_preference, {"preference": openai_rows.to_preference}),
    Shape("sharegpt", sharegpt.recognises, {"chat": sharegpt.to_chat}),
    Shape("alpaca", alpaca.recognises, {"chat": alpaca.to_chat}),
    Shape(
        "trl-preference",
        trl_preference.recognises,
        {"preference": trl_preference.to_preference, "chat": trl_preference.to_chat},
    ),
    Shape(
        "prompt-completion",
        prompt_completion.recognises,
        {"chat": prompt_completion.to_chat, "text": prompt_completion.to_text},
    ),
)
_TEXT = Shape("text", openai_rows.is_text, {"text": openai_rows.to_text})
OWN = ("chat", "preference", "text")
"""Shapes that need no conversion when they stand in a JSON file."""


def shape_for(row: Any, name: str, columns: Columns) -> Shape:
    """The shape called `name`, else the one of named columns, else the first that recognises the row.

    Raises:
        InvalidArgument: FORMAT_UNKNOWN with the columns there are.
    """
    if name:
        return next(shape for shape in SHAPES if shape.name == name)
    by_column = _of_columns(columns)
    if columns.named:
        return by_column
    if isinstance(row, dict):
        for shape in (*SHAPES, by_column, _TEXT):
            if shape.recognises(row):
                return shape
    there = f"its columns are {', '.join(map(str, row))}" if isinstance(row, dict) else "its rows are not objects"
    hint = "Say what it is with --from, or name columns with --input-column and --output-column."
    raise InvalidArgument(f"the format is not recognised: {there}", reason="FORMAT_UNKNOWN", hint=hint)


def _of_columns(columns: Columns) -> Shape:
    ways = {"labeled": columns.to_labeled, "text": columns.to_text, "chat": columns.to_chat}
    first = "labeled" if columns.label else "text" if columns.text else "chat"
    return Shape("columns", columns.recognises, {first: ways.pop(first), **ways})
