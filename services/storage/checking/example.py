"""What the statistics need of a usable row; made by the checks of rows, counted by `tally`."""

import dataclasses
import enum
from collections.abc import Sequence

Shape = tuple[str, ...]
"""The turns of a row in order: roles, with SILENT for an assistant turn of weight 0. Rows of text have none."""

ASSISTANT = "assistant"
SILENT = "assistant, weight 0"
SYSTEM_ROLES = ("system", "developer")
TURN_SEPARATOR = "\x1f"
"""Between the texts of a row; within them it is no harm, the shape tells rows apart."""


class Format(enum.Enum):
    """What a row is; the values are the names in Dataset.Format."""

    CHAT = "CHAT"
    PREFERENCE = "PREFERENCE"
    TEXT = "TEXT"
    LABELED = "LABELED"


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Usable rows of one format, in order. All sequences have one element a row."""

    format: Format
    shapes: Sequence[Shape]
    texts: Sequence[str]
    """Everything a row says, joined; equal rows have equal texts and shapes."""
    endings: Sequence[str]
    """The label of a labeled row, the last content of a chat row, else nothing."""
    empty_contents: Sequence[int]
    """Messages without content; empty = none in any row."""
    learned_characters: int
    """Characters the model learns to write, over all rows."""
    with_tools: int = 0
    """Rows that declare or call tools."""
    ignored_keys: Sequence[str] = ()
    """Keys of the row that nothing here knows; only of batches of one row."""
