"""Processes as Linux tells of them in /proc: who they are, whose children, and how to end them; used by supervisor and keeper."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import time
from collections.abc import Iterator

RUN_VARIABLE = "TUNESMITH_RUN_DIRECTORY"
"""Set for everything a run starts: finds its processes even when their parents and their session are gone."""

_PROC = pathlib.Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"

_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of include/linux/sched.h: it has no environment, ever."""
_MOST_LOOKS = 50
_LOOK_SECONDS = 0.002

_CONDITIONS = {
    "R": "is computing",
    "S": "waits",
    "D": "waits for a disk or a device",
    "T": "was stopped by a signal",
    "t": "was stopped by a debugger",
    "Z": "has ended",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """One process for all time: a process id is used again, together with the start time and the boot it is not."""

    pid: int
    start_ticks: int
    boot: str

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return identify(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to this very process, if it still runs."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclasses.dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    state: str
    parent: int
    session: int
    flags: int
    start_ticks: int


def identify(pid: int) -> Identity | None:
    """Who has this process id now; None when nobody, or only a zombie, has it."""
    stat = _stat(pid)
    if stat is None or stat.state in "ZX":
        return None
    return Identity(pid, stat.start_ticks, _BOOT_ID.read_text().strip())


def condition(pid: int) -> str:
    """What the kernel says a process does, as the rest of a sentence."""
    stat = _stat(pid)
    return _CONDITIONS.get(stat.state, f"is in state {stat.state}") if stat else "is gone"


def descendants(pid: int) -> set[int]:
    """Process ids of all living children, their children and so on; without zombies."""
    stats = list(_stats())
    found = {pid}
    while more := {stat.pid for stat in stats if stat.parent in found} - found:
        found |= more
    return {stat.pid for stat in stats if stat.pid in found and stat.state not in "ZX"} - {pid}


def of_run(directory: pathlib.Path, supervisor: Identity | None) -> set[int]:
    """Process ids of everything that a run started: by its environment, or by the session of its supervisor."""
    marker = f"{RUN_VARIABLE}={directory}".encode()
    session = supervisor.pid if supervisor is not None and _owns_session(supervisor) else -1
    return {
        stat.pid
        for stat in _stats()
        if stat.state not in "ZX" and stat.pid != os.getpid() and (stat.session == session or marker in _environment(stat))
    }


def kill(pids: set[int]) -> None:
    """SIGKILL to each that still is."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _owns_session(leader: Identity) -> bool:
    # A session id stays taken while the session has members, so a number with no living leader is still the old session;
    # a living stranger under it, or another boot, means that it was given out anew.
    if leader.boot != _BOOT_ID.read_text().strip():
        return False
    stat = _stat(leader.pid)
    return stat is None or stat.start_ticks == leader.start_ticks


def _environment(stat: _Stat) -> list[bytes]:
    """What it was started with; waits, not for long, for a process that is just turning into another program.

    Linux shows neither environment nor arguments of such a one, and it must not be overlooked: whoever asks ends a run.
    """
    place = _PROC / str(stat.pid)
    with contextlib.suppress(OSError):
        for _ in range(_MOST_LOOKS):
            text = (place / "environ").read_bytes()
            if text or stat.flags & _KERNEL_THREAD or (place / "cmdline").read_bytes():
                return text.split(b"\0")
            time.sleep(_LOOK_SECONDS)
    return []


def _stats() -> Iterator[_Stat]:
    for name in os.listdir(_PROC):
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            yield stat


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name, in parentheses, may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return _Stat(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[6]), int(fields[19]))
