"""Items of evals: lines of files of purpose `evals`, the rows they are stored as, and back; used by files and runs.

An item trains nothing, so a row of such a file is a text that says no more than that.
"""

from typing import Any

from services.gateway.bodies import Body, optional, required
from services.gateway.failures import refused
from services.gateway.row_lines import RowLines

_TEXT = "item of an eval"


class EvalRows(RowLines):
    """Every line is an item, with or without a sample."""

    noun = "item"

    def _row(self, given: Any, number: int) -> dict[str, Any]:
        return {"text": _TEXT, **item_of(given)}


def item_of(given: Any) -> Body:
    """`item` and perhaps `sample` of a line; raises InvalidArgument naming the place in it."""
    if not isinstance(given, dict):
        raise refused("item", "is not in a JSON object with the key item")
    item, sample = required(given, "item", dict), optional(given, "sample", dict)
    line: Body = {"item": item, "sample": sample}
    return {key: value for key, value in line.items() if value is not None}


def item_in(row: Body) -> Body:
    """The line that a row was made of, of a file or of a run; a row that nobody made of one is its own."""
    line: Body = {key: row[key] for key in ("item", "sample") if key in row}
    return line if "item" in line else row
