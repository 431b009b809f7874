"""Keys of rows that no format knows and that train nothing; how they are seen at the speed of C; used by the fast paths.

A decoder for structs knows its keys in advance, so those of rows that were seen are remembered and expected in the rows behind.
"""

import functools
import itertools
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from services.storage.checking.doubt import Doubt, require
from services.storage.checking.example import Format
from services.storage.checking.json_text import MAX_DEPTH
from services.storage.checking.problem import RowProblem
from services.storage.checking.row import has_format, ignored_in
from services.storage.checking.trusted_json import quotes, trusted

MAX_KEYS = 32
Keys = tuple[str, ...]
"""Sorted."""
# Elsewhere these are not ignored, but checked.
_CHECKED = {"tools", "parallel_tool_calls"}
# What structs cannot be told to expect.
_UNFIT = re.compile(r'[\\"\x00-\x1f]')


def learned(keys: Keys, values: Sequence[dict[str, Any]], expected: Format) -> Keys:
    """The keys with those of more rows; the same keys when a row is not of the format, or has more of them than are expected."""
    try:
        seen = set(itertools.chain(keys, *ignored_in(values, expected)))
    except (Doubt, RowProblem):
        return keys
    return keys if len(seen) > MAX_KEYS or seen & _CHECKED or any(map(_UNFIT.search, seen)) else tuple(sorted(seen))


def open_to(row: type[msgspec.Struct], keys: Keys) -> type[msgspec.Struct]:
    """A row that may also have these keys, and no others."""
    fields = [(_field(index), msgspec.Raw, UNSET) for index in range(len(keys))]
    names = {_field(index): key for index, key in enumerate(keys)}
    return msgspec.defstruct(row.__name__, fields, bases=(row,), rename=names, forbid_unknown_fields=True, gc=False)


def further_of(rows: Sequence[msgspec.Struct], keys: Keys, expected: Format) -> tuple[Sequence[Keys], int]:
    """The keys that each of some decoded rows has of `keys` (empty = none has any), and the double quotes of their JSON.

    Raises Doubt unless what these keys hold is certain to be good JSON.
    """
    columns = [list(map(operator.attrgetter(_field(index)), rows)) for index in range(len(keys))]
    values = [value for value in itertools.chain(*columns) if value is not UNSET]
    if not values:
        return (), 0
    text = b"\n".join(values)
    # Quotes that are not certain are doubted here.
    require(trusted(values, text, framed=True, levels=MAX_DEPTH - 1) is not None)
    given = list(zip(*[[value is not UNSET for value in column] for column in columns], strict=True))
    found = {layout: tuple(itertools.compress(keys, layout)) for layout in set(given)}
    require(_are_of(expected, frozenset(found.values())))
    return [found[layout] for layout in given], 2 * len(values) + quotes(text)


@functools.lru_cache
def _are_of(expected: Format, layouts: Iterable[Keys]) -> bool:
    return all(has_format(keys, expected) for keys in layouts)


def _field(index: int) -> str:
    return f"further_{index}"
