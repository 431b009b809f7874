"""Blocking work off the event loop; used where disks or S3 are written."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs `function` in a thread and returns its result.

    A thread cannot be cancelled: when the caller is, this waits for the thread before it raises, so that clean-up which follows
    finds the work done and not still writing.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            # A caller that is cancelled once more is no reason to clean up earlier.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise
    finally:
        if work.done() and not work.cancelled():
            work.exception()
