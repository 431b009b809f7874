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
_LONG_NUMBER = b"0" * (MAX_INTEGER_DIGITS + 1)


def trusted(rows: Sequence[bytes], text: bytes, *, framed: bool) -> list[dict[str, Any]] | None:
    """The objects of all rows, of which `text` holds one a line; None = one of them may be bad, or read otherwise.

    `framed` says that every row is known to begin with { and to end with }.
    """
    # A number in a text, too: that is rare, and only costs time.
    if not (framed or are_framed(rows)) or _LONG_NUMBER in text.translate(_DIGITS_ALIKE):
        return None
    try:
        values: list[dict[str, Any]] = _DECODER.decode_lines(text)
        kept = _ENCODER.encode_lines(values).count(b'"')
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if len(values) != len(rows) or kept != quotes(text) or not _shallow(rows, values):
        return None
    return values


def quotes(text: bytes) -> int:
    """Double quotes in JSON, those around texts and those within, however these are spelled; -1 = not certain."""
    escaped = text.count(b"\\u0022")
    # A backslash before it may be one of an escaped pair.
    return -1 if escaped and b"\\\\u0022" in text else text.count(b'"') + escaped


def _shallow(rows: Sequence[bytes], values: Sequence[dict[str, Any]]) -> bool:
    # Counting is cheap and settles most rows.
    many = [row.count(b"{") + row.count(b"[") > MAX_DEPTH for row in rows]
    return all(_fits(value, MAX_DEPTH) for value, walked in zip(values, many, strict=True) if walked)


def _fits(value: dict[str, Any] | list[Any], levels: int) -> bool:
    if not levels:
        return False
    for child in value.values() if type(value) is dict else value:
        if isinstance(child, dict | list) and not _fits(child, levels - 1):
            return False
    return True
