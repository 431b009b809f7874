"""OpenAI's list envelope, and how a page is taken from a stream of items."""

from collections.abc import AsyncIterator
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


def cut(items: list[Json], after: str, limit: int, status: str = "") -> Json:
    """The page of a whole list behind the item with the id `after` (empty = from the beginning), of those of a status (empty = any).

    It is found by its id, so that items that came or went shift nothing. Raises InvalidArgument when it is not there.
    """
    ids = [item["id"] for item in items]
    if after and after not in ids:
        raise unknown_cursor(after)
    behind = items[ids.index(after) + 1 :] if after else items
    wanted = [item for item in behind if status in ("", item.get("status"))]
    return page_of(wanted[:limit], has_more=len(wanted) > limit)


def unknown_cursor(after: str) -> Exception:
    """`after` names nothing in this list: an empty page would end the caller's loop as if all had been told."""
    return refused("after", f"{after[:80]!r} is not in this list")
