"""What the statistics need of a usable row; made by the checks of rows, counted by `tally`."""

import collections
import enum
import itertools
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


def merged(batches: Sequence[Batch]) -> Batch:
    """One batch of the rows of several, which are of one format; there is at least one."""
    chained = itertools.chain.from_iterable
    empty: list[int] = []
    ignored: list[tuple[str, ...]] = []
    if any(batch.empty_contents for batch in batches):
        empty = list(chained(batch.empty_contents or [0] * len(batch.texts) for batch in batches))
    if any(batch.ignored_keys for batch in batches):
        ignored = list(chained(batch.ignored_keys or [()] * len(batch.texts) for batch in batches))
    return Batch(
        batches[0].format,
        list(chained([batch.shapes for batch in batches])),
        list(chained([batch.texts for batch in batches])),
        list(chained([batch.endings for batch in batches])),
        empty,
        sum([batch.learned_characters for batch in batches]),
        sum([batch.with_tools for batch in batches]),
        ignored,
    )
