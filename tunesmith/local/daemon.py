"""A stack in the background and the end of any stack; used by `up --detach`, `down` and the demo."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.local.errors import LocalError
from tunesmith.local.processes import end, find, wait_until_gone, with_descendants
from tunesmith.local.state import DataDirectory, StackState

START_TIMEOUT_SECONDS = 600.0
STOP_TIMEOUT_SECONDS = 60.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Background:
    """A stack running in the background."""

    process: "subprocess.Popen[bytes]"
    state: StackState


def start(directory: DataDirectory, options: Sequence[str], *, bound_to_us: bool = False) -> Background:
    """Run `tunesmith up` with these options in the background and return when it is ready.

    `bound_to_us`: it stops when this process dies.

    Raises:
        LocalError: STACK_DID_NOT_START with what it said, or what stops a second stack.
    """
    directory.create()
    if directory.is_locked():
        with directory.locked():  # raises, naming the owner
            pass
    log = directory.logs / "up.log"
    command = [sys.executable, "-P", "-m", "tunesmith.cli", "up", "--data-dir", str(directory.root), *options]
    if bound_to_us:
        command = [sys.executable, "-P", "-m", "tunesmith.local.child", "SIGTERM", str(os.getpid()), *command]
    with log.open("ab") as output:
        start_of_log = output.tell()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            with log.open("rb") as lines:
                lines.seek(start_of_log)
                raise _did_not_start(lines.read().decode(errors="replace"), str(log))
        state = running(directory)
        if state and state.ready and state.supervisor.pid == process.pid:
            return Background(process, state)
        time.sleep(_POLL_SECONDS)
    end(with_descendants([running_or_fail(directory).supervisor]), patience_seconds=20)
    raise _did_not_start(f"not ready after {START_TIMEOUT_SECONDS:g} s", str(log))


def running(directory: DataDirectory) -> StackState | None:
    """What runs on this directory; None when nothing does."""
    return directory.read_stack() if directory.is_locked() else None


def running_or_fail(directory: DataDirectory) -> StackState:
    """What runs on this directory.

    Raises:
        LocalError: NOT_RUNNING.
    """
    state = running(directory)
    if state is None:
        raise LocalError("NOT_RUNNING", f"nothing runs on {directory.root}", "Start it with: tunesmith up")
    return state


def stop(directory: DataDirectory) -> bool:
    """End the stack and everything that is left of it; False when there was nothing to end."""
    state = directory.read_stack()
    if state is None:
        return False
    family = with_descendants([state.supervisor, *state.processes.values()])
    if supervisor := find(state.supervisor):
        supervisor.terminate()
        wait_until_gone(state.supervisor, time.monotonic() + STOP_TIMEOUT_SECONDS)
    end([process for process in family if process.is_running()], patience_seconds=5)
    directory.remove_stack()
    return bool(family)


def _did_not_start(said: str, log: str) -> LocalError:
    last = "".join(f"\n    {line}" for line in said.strip().splitlines()[-12:])
    return LocalError("STACK_DID_NOT_START", f"the stack did not start; it said:{last}", f"The whole log: {log}")
