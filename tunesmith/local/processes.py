"""Processes seen from outside: identity, survivors, orphans; used by the supervisor, `down` and `status`."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from tunesmith.local.state import ProcessId

_PR_SET_CHILD_SUBREAPER = 36


def identify(pid: int) -> ProcessId | None:
    """The identity of a living process; None when it is gone."""
    try:
        return ProcessId(pid, psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def find(identity: ProcessId) -> psutil.Process | None:
    """The process itself, unless it is gone, a zombie, or another one has its pid now."""
    try:
        process = psutil.Process(identity.pid)
        same = abs(process.create_time() - identity.create_time) < 0.01
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def with_descendants(identities: Iterable[ProcessId]) -> list[psutil.Process]:
    """Those that live, and everything they started that is still below them."""
    family: dict[int, psutil.Process] = {}
    for process in filter(None, map(find, identities)):
        try:
            family |= {member.pid: member for member in [process, *process.children(recursive=True)]}
        except psutil.Error:
            continue
    return list(family.values())


def end(processes: Iterable[psutil.Process], patience_seconds: float) -> None:
    """SIGTERM to all, then SIGKILL to those left after the patience; returns when none is left."""
    remaining = list(processes)
    for process in remaining:
        _quietly(process.terminate)
    _, stubborn = psutil.wait_procs(remaining, timeout=patience_seconds)
    for process in stubborn:
        _quietly(process.kill)
    psutil.wait_procs(stubborn, timeout=5)


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that a final stop finds what a dead service started."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(own: set[int]) -> None:
    """Collect dead adopted processes at once: to those who look by pid a zombie seems alive. `own` are collected elsewhere."""
    if not _has_dead_child():
        return
    for process in psutil.Process().children():
        try:
            if process.pid not in own and process.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            continue


def _has_dead_child() -> bool:
    """One question to the kernel, where looking at the children means looking at every process of the machine."""
    if sys.platform != "linux":
        return True
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def wait_until_gone(identity: ProcessId, deadline: float) -> bool:
    """True when the process ended before the deadline (time.monotonic())."""
    while find(identity) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return
