"""A control group of its own for everything a run starts, where the system lets the trainer make one (cgroup v2); used by
supervisor and keeper. A process leaves neither by a session of its own nor by another environment. Standard library only.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterable, Iterator

_MOUNTS = pathlib.Path("/proc/self/mounts")
_MEMBERSHIP = pathlib.Path("/proc/self/cgroup")


@contextlib.contextmanager
def own_group(name: str, pids: Iterable[int]) -> Iterator[pathlib.Path | None]:
    """Inside the block this process, `pids` and all they start from then on are in a new group `name` below the present one.

    Yields its directory, None where there can be none. A group in which others are left at the end stays, for `end`.
    """
    parent = _present_group()
    group = parent and _made(parent / f"tunesmith-{name}")
    if parent is None or group is None:
        yield None
        return
    try:
        yield group if _moved(group, [os.getpid(), *pids]) else None
    finally:
        _moved(parent, [os.getpid()])
        _removed(group)


def members(group: pathlib.Path | None) -> set[int]:
    """Process ids of all that live in it; empty when there is none."""
    if group is None:
        return set()
    try:
        return {int(line) for line in (group / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def end(group: pathlib.Path | None) -> None:
    """Kills all that is in it at once, also what is being started, and removes it when nothing is left."""
    if group is None:
        return
    # Before Linux 5.14 there is no such file; then `members` are killed one by one.
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1")
    _removed(group)


def _present_group() -> pathlib.Path | None:
    """Directory of the group this process is in."""
    try:
        mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
        memberships = [line.partition("::")[2] for line in _MEMBERSHIP.read_text().splitlines() if line.startswith("0::")]
    except OSError:
        return None
    roots = [mount[1] for mount in mounts if len(mount) > 2 and mount[2] == "cgroup2"]
    if not roots or not memberships:
        return None
    return pathlib.Path(roots[0]) / memberships[0].lstrip("/")


def _made(group: pathlib.Path) -> pathlib.Path | None:
    try:
        group.mkdir(exist_ok=True)
    except OSError:
        return None
    return group


def _moved(group: pathlib.Path, pids: Iterable[int]) -> bool:
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        return False
    return True


def _removed(group: pathlib.Path) -> None:
    # One with members cannot be removed; a directory of this file system is removed without emptying it.
    with contextlib.suppress(OSError):
        group.rmdir()
