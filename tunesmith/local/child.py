"""Runs a command that ends when its supervisor does; every child of the local stack is started through it.

`python -m tunesmith.local.child SIGNAL SUPERVISOR_PID COMMAND...` asks the kernel for SIGNAL on the supervisor's death, then
becomes COMMAND. It is a program and not a `preexec_fn`, because code between fork and exec can deadlock in a process with
threads, and because it has to run inside the user namespace of Postgres: entering one may clear the request.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Ask for the signal, check that the supervisor still lives, become the command."""
    death_signal, supervisor, command = signal.Signals[arguments[0]], int(arguments[1]), arguments[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != supervisor:  # it died before the request: nobody would ever send the signal
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # a list, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
