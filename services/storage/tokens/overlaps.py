"""Rows that two datasets share: what a model is asked while it is measured must not be what it was trained on.

Used by the command `overlap`. Of the other dataset 32 bytes a row are kept, and what a set of them costs: about 250 MB for a
million rows.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from services.storage.tokens.row_lines import Row

NAMED_ROWS = 20
_DIGEST_BYTES = 16
_IGNORED = ("weight", "name")


@dataclasses.dataclass(slots=True)
class Overlap:
    """Counts over the first dataset's rows; `rows` are the numbers of the first ones."""

    same_input_count: int = 0
    same_row_count: int = 0
    rows: list[int] = dataclasses.field(default_factory=list)


def count_overlap(rows: Iterable[tuple[int, Row]], against: Iterable[tuple[int, Row]]) -> Overlap:
    """Reads `against` to its end first."""
    inputs, whole = set(), set()
    for _, row in against:
        inputs.add(_digest(_normal(_input(row))))
        whole.add(_digest(row))
    overlap = Overlap()
    for number, row in rows:
        same_row = _digest(row) in whole
        if same_row or _digest(_normal(_input(row))) in inputs:
            overlap.same_input_count += 1
            overlap.same_row_count += same_row
            if len(overlap.rows) < NAMED_ROWS:
                overlap.rows.append(number)
    return overlap


def _input(row: Row) -> Any:
    """Everything before the last answer; of a row without anything before it, the row."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        return row["input"].get("messages") if "preferred_output" in row else row.get("text", row)
    if "label" in row:
        return messages
    answers = [index for index, message in enumerate(messages) if message.get("role") == "assistant"]
    return messages[: answers[-1]] if answers and answers[-1] > 0 else messages


def _normal(value: Any) -> Any:
    """The same for texts that differ only in case and white space, whatever their weights and names."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items() if key not in _IGNORED}
    return value


def _digest(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()
