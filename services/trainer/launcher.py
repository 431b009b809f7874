"""Starts the supervisor of a run as a process of its own session, which outlives the trainer; used by the keeper."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Mapping

from services.common.failpoints import around
from services.trainer.contact import Fence
from services.trainer.kinds.table import KINDS
from services.trainer.processes import RUN_VARIABLE
from services.trainer.run_directory import RunDirectory
from services.trainer.warm_pool import WarmPool


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
    fence: Fence | None = None
    """None = runs go on whoever asks."""
    inference: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Environment of the processes that ask models."""
    warm: WarmPool | None = None
    """Supervisors that wait for a fine-tuning of one process."""

    def launch_warm(self, run: RunDirectory) -> subprocess.Popen[bytes] | None:
        """Gives the run to a supervisor that waits for one; None = none does."""
        if self.warm is None or run.request.num_processes != 1 or KINDS[run.request.kind].module:
            return None
        with around("spawn"):
            return self.warm.take(run.path)

    def launch(self, run: RunDirectory) -> subprocess.Popen[bytes]:
        """Starts one and returns at once; raises OSError when the machine has no room for a process."""
        kind = KINDS[run.request.kind]
        if self.warm is not None and not kind.asks_models:
            self.warm.make_room()
        threads = self.threads_for(run.request.num_processes)
        options = supervisor_options(kind.module or self.module, self.grace, threads, self.stall_floor, self.fence)
        with around("spawn"), (run.path / "supervisor.log").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "services.trainer.supervisor", str(run.path), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(run) | (dict(self.inference) if kind.asks_models else {}),
                start_new_session=True,
                close_fds=True,
            )


def supervisor_options(module: str, grace: float, threads: int, stall_floor: float, fence: Fence | None) -> list[str]:
    """What a supervisor is told beside the run; see `supervisor`."""
    named = {"module": module, "grace": grace, "threads": threads, "stall-floor": stall_floor}
    return [word for name, value in named.items() for word in (f"--{name}", str(value))] + [*(fence.options() if fence else ())]


def _environment(run: RunDirectory) -> dict[str, str]:
    # The trainer's own settings hold keys; training code, and whatever it prints, must not see them.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return inherited | {RUN_VARIABLE: str(run.path)}
