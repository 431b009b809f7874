"""What the statistics need of a usable row; made by the checks of rows, counted by `tally`."""

import collections
import enum
from collections.abc import Mapping, Sequence

import msgspec

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


class Example(msgspec.Struct, frozen=True, gc=False):
    """One usable row; see `Batch`, which holds the same of many."""

    format: Format
    shape: Shape
    text: str
    ending: str = ""
    empty_contents: int = 0
    learned_characters: int = 0
    with_tools: bool = False
    ignored_keys: tuple[str, ...] = ()


class Batch(msgspec.Struct, frozen=True, gc=False):
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
    ignored_keys: Sequence[tuple[str, ...]] = ()
    """Keys of the row that nothing here knows; empty = none in any row."""


def counted(shapes: Sequence[Shape]) -> Mapping[Shape, int]:
    """How often each shape occurs. Most batches have one, and comparing is faster than hashing."""
    if shapes.count(shapes[0]) == len(shapes):
        return {shapes[0]: len(shapes)}
    return collections.Counter(shapes)


def batch_of(examples: Sequence[Example]) -> Batch:
    """The batch of rows of one format; there is at least one."""
    empty, ignored = [row.empty_contents for row in examples], [row.ignored_keys for row in examples]
    return Batch(
        examples[0].format,
        [row.shape for row in examples],
        [row.text for row in examples],
        [row.ending for row in examples],
        empty if any(empty) else (),
        sum([row.learned_characters for row in examples]),
        sum([row.with_tools for row in examples]),
        ignored if any(ignored) else (),
    )
