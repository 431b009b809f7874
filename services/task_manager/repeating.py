"""Loops that outlive what goes wrong in them; used by the dispatcher and `__main__`."""

import asyncio
import datetime
from collections.abc import Awaitable, Callable

import structlog

from services.common.errors import ServiceError
from services.task_manager.cancellation import check_cancelled
from services.task_manager.hub import wait_for

log = structlog.get_logger()


async def repeat(name: str, action: Callable[[], Awaitable[None]], interval: datetime.timedelta, hint: asyncio.Event) -> None:
    """Acts again and again until cancelled, `interval` after the last time or at a hint; waits longer after a failure."""
    while True:
        check_cancelled()
        hint.clear()
        try:
            await action()
        except ServiceError as error:
            log.warning("loop.interrupted", loop=name, reason=error.reason, message=error.message)
            await asyncio.sleep(interval.total_seconds())
        except Exception:
            log.exception("loop.crashed", loop=name)
            await asyncio.sleep(interval.total_seconds())
        await wait_for(hint, interval.total_seconds())
