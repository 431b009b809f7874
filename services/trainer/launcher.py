"""Starts the supervisor of a run as a process of its own session, which outlives the trainer; used by the keeper."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable

from services.common.failpoints import around
from services.trainer.kinds.table import KINDS
from services.trainer.processes import RUN_VARIABLE
from services.trainer.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True, slots=True)
class Launcher:
    """How supervisors are started."""

    module: str
    """What a rank of a fine-tuning runs."""
    grace: float
    """Seconds between SIGTERM and SIGKILL."""
    threads_for: Callable[[int], int]
    """Threads of each rank, given their number."""
    stall_floor: float = 600.0
    """Seconds without progress that are never a stall."""

    def launch(self, run: RunDirectory) -> subprocess.Popen[bytes]:
        """Starts it and returns at once; raises OSError when the machine has no room for a process."""
        threads = self.threads_for(run.request.num_processes)
        module = KINDS[run.request.kind].module or self.module
        options = ["--module", module, "--grace", str(self.grace), "--threads", str(threads)]
        options += ["--stall-floor", str(self.stall_floor)]
        with around("spawn"), (run.path / "supervisor.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "services.trainer.supervisor", str(run.path), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(run),
                start_new_session=True,
                close_fds=True,
            )


def _environment(run: RunDirectory) -> dict[str, str]:
    # The trainer's own settings hold keys; training code, and whatever it prints, must not see them.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return inherited | {RUN_VARIABLE: str(run.path)}
