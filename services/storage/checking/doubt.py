"""How the fast path gives up; used by `plain_rows`, `conversations`, `tool_rows` and `row`."""


class Doubt(Exception):
    """The rows may be good or bad; the checks of `row` decide."""


def require(certain: bool) -> None:
    """Raises Doubt unless it is certain."""
    if not certain:
        raise Doubt
