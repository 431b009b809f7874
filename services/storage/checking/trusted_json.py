"""Many rows to plain values at the speed of C, when it is certain that `json_text` would read the same; used by `block_reader`.

The decoder is laxer than `json_text` in three ways, and each is looked for: equal keys (the last one wins), long numbers, and
nesting. A value that lost a key has fewer double quotes when it is written again.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.storage.checking.json_number import MAX_INTEGER_DIGITS
from services.storage.checking.json_text import MAX_DEPTH
from services.storage.checking.line_source import are_framed

_DECODER, _ENCODER = msgspec.json.Decoder(), msgspec.json.Encoder()
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_ESCAPED = b"\\u0022"
_LONG_NUMBER = b"0" * (MAX_INTEGER_DIGITS + 1)


def trusted(rows: Sequence[bytes], text: bytes, *, framed: bool, levels: int = MAX_DEPTH) -> list[Any] | None:
    """The values of all rows, of which `text` holds one a line; None = one of them may be bad, or read otherwise.

    `framed` says that every row is known to be one value; else each must begin with { and end with }. Values nest at most
    `levels` deep.
    """
    # A number in a text, too: that is rare, and only costs time.
    if not (framed or are_framed(rows)) or _LONG_NUMBER in text.translate(_DIGITS_ALIKE):
        return None
    try:
        values: list[dict[str, Any]] = _DECODER.decode_lines(text)
        kept = _ENCODER.encode_lines(values).count(b'"')
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if len(values) != len(rows) or kept != quotes(text) or not _shallow(rows, values, levels):
        return None
    return values


def quotes(text: bytes) -> int:
    """Double quotes in JSON, those around texts and those within, however these are spelled; -1 = not certain."""
    # Most have none; looking from the end is twice as fast as counting.
    if text.rfind(_ESCAPED) < 0:
        return text.count(b'"')
    # A backslash before it may be one of an escaped pair.
    return -1 if b"\\" + _ESCAPED in text else text.count(b'"') + text.count(_ESCAPED)


def _shallow(rows: Sequence[bytes], values: Sequence[Any], levels: int) -> bool:
    # Counting is cheap and settles most rows.
    return all(fits(value, levels) for row, value in zip(rows, values, strict=True) if _may_nest(row, levels))


def _may_nest(row: bytes, levels: int) -> bool:
    brackets = bytes(row)
    return brackets.count(b"{") + brackets.count(b"[") > levels


def fits(value: Any, levels: int) -> bool:
    """Whether a JSON value nests at most so many levels; one without a list or an object has none."""
    if not isinstance(value, dict | list):
        return True
    return levels > 0 and all(fits(child, levels - 1) for child in (value.values() if type(value) is dict else value))
