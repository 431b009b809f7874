"""Where the objects of a piece of an array begin and end, at the speed of C when that is certain; used by `array_source`."""

import msgspec

_DECODER = msgspec.json.Decoder(list[msgspec.Raw])
_TRIES = 3


def object_spans(text: bytes, at: int, max_brackets: int) -> list[tuple[int, int]]:
    """(begin, end) of the objects of an array from `at` on, of which each but the last has a comma behind it.

    Ends before an element that is no object or has more than `max_brackets` opening ones, and at what a decoder refuses. A cut
    behind `}` is one between elements when what is before it, closed with one bracket, is JSON: inside a text or a nested value
    that would not be closed.
    """
    end = len(text)
    for _ in range(_TRIES):
        end = text.rfind(b"},", at, end) + 1
        if end <= at:
            return []
        try:
            return _spans(text, at, _DECODER.decode(b"[" + text[at:end] + b"]"), max_brackets)
        except (msgspec.DecodeError, RecursionError):
            continue
    return []


def _spans(text: bytes, at: int, elements: list[msgspec.Raw], max_brackets: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for element in elements:
        # Between elements there are only a comma and blanks.
        begin = text.find(b"{", at)
        end = begin + memoryview(element).nbytes
        if text[at:begin].strip(b", \t\r\n") or text.count(b"{", begin, end) + text.count(b"[", begin, end) > max_brackets:
            return spans
        spans.append((begin, end))
        at = end
    return spans
