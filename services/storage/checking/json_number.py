"""Numbers that every program reads the same; used by `json_text` and `json_diagnosis`."""

import math

MAX_INTEGER_DIGITS = 19


def integer(text: str) -> int:
    """The integer; raises ValueError when it has more than 19 digits."""
    if len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise ValueError(f"the number {text[:20]}... has {len(text.lstrip('-'))} digits, more than {MAX_INTEGER_DIGITS}")
    return int(text)


def floating(text: str) -> float:
    """The number; raises ValueError when it is too large for a double."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value
