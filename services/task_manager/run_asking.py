"""Asks a trainer to end or to pause a run; started by the dispatcher for every task that is CANCELLING or PAUSING."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from services.common.errors import ServiceError
from services.task_manager.cancellation import check_cancelled

log = structlog.get_logger()


async def ask_repeatedly(ask: Callable[[str], Awaitable[None]], run_name: str, interval: float) -> None:
    """Asks the trainer again and again; whoever follows the run sees its end and ends this."""
    while True:
        check_cancelled()
        try:
            await ask(run_name)
        except ServiceError as error:
            log.info("run.asking_refused", run=run_name, reason=error.reason)
        except Exception:
            # What is wrong with one run must not end the dispatcher.
            log.exception("run.asking_failed", run=run_name)
        await asyncio.sleep(interval)
