"""Offending values for messages: quoted, escaped and cut; used by every check of this package."""

from typing import Any

_QUOTED = 60


def quoted(value: Any) -> str:
    """The value in quotes, cut to 60 characters, control characters and half characters escaped."""
    # The text of a list of a million numbers is never made.
    text = value if isinstance(value, str) else kind(value) if isinstance(value, (list, dict)) else repr(value)
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "...")


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")
