"""`python -m services.trainer.answering RUN_DIRECTORY/config.json`: asks models until every row has its answer, then adds up.

SIGTERM ends it at once; answers that came are on disk, and the next process goes on behind them.
"""

import asyncio
import errno
import faulthandler
import logging
import os
import pathlib
import signal
import sys
import time
import traceback

from services.common.channels import connect
from services.common.errors import ServiceError
from services.trainer.answering.asking import Asker
from services.trainer.answering.config import EvaluationConfig, GenerationConfig, inference_service, load_config
from services.trainer.answering.evaluation import evaluate
from services.trainer.answering.generation import generate
from services.trainer.answering.inference import Inference
from services.trainer.answering.outcome import Outcome, save_outcome
from services.trainer.answering.reports import Reports

_STOPPED = 128 + signal.SIGTERM
_log = logging.getLogger(__name__)


def main() -> int:
    """Run and report; returns the exit code."""
    reports = Reports(int(os.environ["TUNESMITH_EVENTS_FD"]))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    # The supervisor asks for the stacks of a process that does not move.
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    try:
        return asyncio.run(_until_stopped(load_config(pathlib.Path(sys.argv[1])), reports))
    except Exception as error:  # the top of the process: whatever it is becomes a failure of the catalogue
        failure = _as_failure(error)
        if failure is not error:
            traceback.print_exc()
        reports.failure(failure)
        _log.error("failed: %s: %s", failure.reason, failure.message)
        return 1


async def _until_stopped(config: EvaluationConfig | GenerationConfig, reports: Reports) -> int:
    running = asyncio.ensure_future(run(config, reports))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        outcome = await running
    except asyncio.CancelledError:
        return _STOPPED
    save_outcome(outcome, config.directory)
    _log.info("%s", outcome.result.get("summary") or f"{outcome.step} rows are answered")
    return 0


async def run(config: EvaluationConfig | GenerationConfig, reports: Reports) -> Outcome:
    """The whole run."""
    peer = inference_service()
    async with connect(peer.address, api_key=peer.api_key, tls_ca=peer.tls_ca) as channel:
        asker = Asker(Inference(channel, api_key=peer.api_key), at_once=peer.questions, clock=time.monotonic)
        reports.beat(0, "busy")
        if isinstance(config, EvaluationConfig):
            return await evaluate(config, asker, reports, time.monotonic)
        return await generate(config, asker, reports, time.monotonic)


def _as_failure(error: Exception) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ServiceError("DISK_FULL", f"the trainer's disk is full: {text}")
    return ServiceError("ANSWERING_FAILED", text)


if __name__ == "__main__":
    sys.exit(main())
