"""`python -m services.trainer.training.exporting CONFIG.json`: an export, the only process of its run.

Exit codes: 0 = the result is saved, 1 = failed (an event says why), 143 = stopped by SIGTERM. It keeps no checkpoints: started
again, it begins anew.
"""

import faulthandler
import logging
import os
import signal
import sys
import traceback
from pathlib import Path

from services.trainer.training.__main__ import leave
from services.trainer.training.events import FdSink
from services.trainer.training.exporting.config import load_config
from services.trainer.training.exporting.stages import Stages
from services.trainer.training.failures import as_failure
from services.trainer.training.quiet import quiet_libraries

_log = logging.getLogger("tunesmith.export")


def main() -> int:
    """Export and report; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    sink = FdSink(int(os.environ["TUNESMITH_EVENTS_FD"]))
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    # The supervisor asks for the stacks of a process that does not move.
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    stages = Stages(sink, _log)
    try:
        config = load_config(Path(sys.argv[1]))
        quiet_libraries()
        # Threads that wait for each other must sleep, not spin: other processes need the cores.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from services.trainer.training.exporting.export import export

        export(config, stages)
    except Exception as error:  # the top of the process: whatever it is becomes a failure of the catalogue
        failure = as_failure(error)
        if failure is not error:
            traceback.print_exc()
        sink.failure(failure, stages.done)
        _log.error("failed: %s: %s", failure.reason, failure.message)
        return 1
    return 0


if __name__ == "__main__":
    leave(main())
