"""Processes that do not outlive the one that started them (Linux); used by whoever starts or is started."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """This process is killed when `parent` dies, whatever happens; ends it now if that has happened already. Raises OSError."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    # The parent may have died before the line above: then nobody would ever send the signal.
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Makes this process the parent of every descendant whose parent dies, so that none can hide. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
