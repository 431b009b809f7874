"""How the fast path gives up; used by `plain_rows` and `conversations`."""


class Doubt(Exception):
    """The rows may be good or bad; the checks of `row` decide."""


def require(certain: bool) -> None:
    """Raises Doubt unless it is certain."""
    if not certain:
        raise Doubt
