"""OpenAI's list envelope, and how a page is taken from a stream of items."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from services.gateway.failures import refused

Item = TypeVar("Item")
Json = dict[str, Any]


def page_of(items: list[Json], *, has_more: bool) -> Json:
    """`{"object": "list", "data", "has_more", "first_id", "last_id"}`."""
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
    return {"object": "list", "data": items, "has_more": has_more, **ends}


async def take(items: AsyncIterator[Item], limit: int) -> tuple[list[Item], bool]:
    """The first `limit` items, and whether there are more."""
    taken: list[Item] = []
    async for item in items:
        if len(taken) == limit:
            return taken, True
        taken.append(item)
    return taken, False


def cut(
    items: Sequence[Item], after: str, limit: int, id_of: Callable[[Item], str], wanted: Callable[[Item], bool] = lambda _: True
) -> tuple[list[Item], bool]:
    """The first `limit` wanted items of a list behind the one with the id `after` (empty = of all), and whether there are more.

    It is found by its id, so that items that came or went shift nothing. Raises InvalidArgument when it is not there.
    """
    places = [place for place, item in enumerate(items) if id_of(item) == after] if after else [-1]
    if not places:
        raise unknown_cursor(after)
    behind = [item for item in items[places[0] + 1 :] if wanted(item)]
    return behind[:limit], len(behind) > limit


def unknown_cursor(after: str) -> Exception:
    """`after` names nothing in this list: an empty page would end the caller's loop as if all had been told."""
    return refused("after", f"{after[:80]!r} is not in this list")
