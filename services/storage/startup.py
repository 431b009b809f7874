"""Waiting at start for what the service needs; used by `__main__`."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import structlog

from services.common.errors import Unavailable

log = structlog.get_logger()

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 3.0


async def wait_for(step: Callable[[], Awaitable[object]], dependency: str, *, timeout: float) -> None:
    """Tries `step` until it succeeds, with growing pauses; raises the last failure after `timeout` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            await step()
            return
        except (psycopg.OperationalError, Unavailable) as error:
            if loop.time() + pause > deadline:
                raise
            log.warning("dependency.awaited", dependency=dependency, error=str(error).partition("\n")[0], retry_seconds=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
