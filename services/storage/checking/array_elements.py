"""The objects of a piece of an array, found at the speed of C when that is certain; used by `array_source`."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import msgspec

from services.storage.checking.json_text import MAX_DEPTH, is_too_deep

_DECODER = msgspec.json.Decoder(list[msgspec.Raw])
_TRIES = 3
_OBJECT = ord("{")


@dataclasses.dataclass(frozen=True, slots=True)
class Objects:
    """Objects of an array in order."""

    rows: list[bytes]
    starts: list[int]
    """Where in the piece each begins."""
    space: bytes | None = None
    """What is between any two of them, None when that differs."""


def find_objects(text: bytes, at: int) -> Objects:
    """The objects of an array from `at` on, of which each but the last has a comma behind it.

    Ends before an element that is no object or nests too deep, and at what a decoder refuses. A cut behind `}` is one between
    elements when what is before it, closed with one bracket, is JSON: inside a text or a nested value that would not be closed.
    """
    end = len(text)
    for _ in range(_TRIES):
        end = text.rfind(b"},", at, end) + 1
        if end <= at:
            break
        try:
            elements = list(map(bytes, _DECODER.decode(b"[" + text[at:end] + b"]")))
        except (msgspec.DecodeError, RecursionError):
            continue
        if [1 for element in elements if element[0] != _OBJECT]:
            elements = list(itertools.takewhile(lambda element: element[0] == _OBJECT, elements))
        found = _placed(text, at, elements)
        good = _first_deep(text, found)
        return Objects(found.rows[:good], found.starts[:good], found.space)
    return Objects([], [])


def _placed(text: bytes, at: int, elements: list[bytes]) -> Objects:
    """Between elements there are only a comma and blanks: mostly the same ones."""
    if not elements:
        return Objects([], [])
    begin = text.find(b"{", at)
    ended = begin + len(elements[0])
    space = text[ended : text.find(b"{", ended)] if len(elements) > 1 else b""
    joined = space.join(elements)
    if text[begin : begin + len(joined)] != joined:
        return Objects(elements, list(_starts(text, at, elements)))
    wide = len(space)
    return Objects(elements, list(itertools.accumulate([len(one) + wide for one in elements[:-1]], initial=begin)), space)


def _starts(text: bytes, at: int, elements: Sequence[bytes]) -> Iterator[int]:
    for element in elements:
        begin = text.find(b"{", at)
        yield begin
        at = begin + len(element)


def _first_deep(text: bytes, found: Objects) -> int:
    """How many rows there are before the first that nests too deep."""
    if not found.rows:
        return 0
    bounds = [*found.starts, found.starts[-1] + len(found.rows[-1])]
    # If all rows are like the first, so many have no more brackets together than one may have without nesting too deep.
    many = max(1, MAX_DEPTH // _opened(text, bounds[0], bounds[1]))
    for first in range(0, len(found.rows), many):
        last = min(first + many, len(found.rows))
        if _opened(text, bounds[first], bounds[last]) > MAX_DEPTH:
            for index in range(first, last):
                if is_too_deep(found.rows[index]):
                    return index
    return len(found.rows)


def _opened(text: bytes, start: int, end: int) -> int:
    return text.count(b"{", start, end) + text.count(b"[", start, end)
