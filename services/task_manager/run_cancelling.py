"""Asks a trainer for the end of a run; started by the dispatcher for every task that is CANCELLING."""

import asyncio

import structlog

from services.common.errors import ServiceError
from services.task_manager.cancellation import check_cancelled
from services.task_manager.trainer_port import Trainer

log = structlog.get_logger()


async def cancel_repeatedly(trainer: Trainer, run_name: str, interval: float) -> None:
    """Asks the trainer for the end of a run again and again; whoever follows the run sees the end and ends this."""
    while True:
        check_cancelled()
        try:
            await trainer.cancel_run(run_name)
        except ServiceError as error:
            log.info("run.cancel_refused", run=run_name, reason=error.reason)
        await asyncio.sleep(interval)
