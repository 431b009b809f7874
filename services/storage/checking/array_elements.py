"""The objects of a piece of an array, found at the speed of C when that is certain; used by `array_source`."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import msgspec

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

    Ends before an element that is no object, and at what a decoder refuses. A cut behind `}` is one between elements when what is
    before it, closed with one bracket, is JSON: inside a text or a nested value that would not be closed.
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
        return _placed(text, at, elements)
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
