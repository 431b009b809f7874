"""Keyset pages: opaque tokens that hold the position and a digest of the filter; used by every List method."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence

from services.common.errors import InvalidArgument, Violation

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
_INT64 = re.compile(r"-?\d{1,18}")


def page_size(requested: int, *, default: int = DEFAULT_PAGE_SIZE) -> int:
    """The number of items a page may have; raises InvalidArgument when negative."""
    if requested < 0:
        raise InvalidArgument(Violation("page_size", f"{requested} is negative; use 0 for the default"))
    return min(requested or default, MAX_PAGE_SIZE)


def encode_token(position: Sequence[str], filter_text: str) -> str:
    """A token for the page after `position` (the sort key of the last item) under the filter `filter_text`."""
    payload = json.dumps([list(position), _digest(filter_text)], separators=(",", ":"))
    return base64.urlsafe_b64encode(payload.encode()).decode()


def decode_token(token: str, filter_text: str) -> tuple[str, ...] | None:
    """The position in a token, None for the first page; raises InvalidArgument when broken or made for another filter."""
    if not token:
        return None
    try:
        position, digest = json.loads(base64.urlsafe_b64decode(token.encode()))
        decoded = tuple(str(part) for part in position)
    except (ValueError, TypeError, binascii.Error):
        raise _invalid("is not a token this server made") from None
    if digest != _digest(filter_text):
        raise _invalid("was made for another filter")
    return decoded


def decode_number(token: str, filter_text: str) -> int | None:
    """The position in the token of a list that is sorted by one number; as `decode_token`."""
    position = decode_token(token, filter_text)
    if position is None:
        return None
    if len(position) != 1 or not position[0].isdecimal():
        raise _invalid("is not a token of this list")
    return int(position[0])


def encode_numbered(position: tuple[int, str], filter_text: str) -> str:
    """A token of a list that is sorted by a number, then by a text; as `encode_token`."""
    return encode_token((str(position[0]), position[1]), filter_text)


def decode_numbered(token: str, filter_text: str) -> tuple[int, str] | None:
    """The position in such a token, whose number has 64 bits; as `decode_token`."""
    position = decode_token(token, filter_text)
    if position is None:
        return None
    if len(position) != 2 or not _INT64.fullmatch(position[0]):
        raise _invalid("is not a token of this list")
    return int(position[0]), position[1]


def _digest(filter_text: str) -> str:
    return hashlib.sha256(filter_text.encode()).hexdigest()[:16]


def _invalid(description: str) -> InvalidArgument:
    return InvalidArgument(Violation("page_token", description), reason="INVALID_PAGE_TOKEN")
