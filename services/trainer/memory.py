"""Main memory that runs can have: the machine's, or less in a container that is limited (cgroup v2); used by the servicer."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping

_MEMINFO = pathlib.Path("/proc/meminfo")
_GROUP = pathlib.Path("/sys/fs/cgroup")
"""In a container, its own group."""


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """In bytes; 0 = not known."""

    total: int
    available: int
    """That processes could take without others being swapped out; caches of files count as available."""


def read(meminfo: pathlib.Path = _MEMINFO, group: pathlib.Path = _GROUP) -> Memory:
    """As it is now."""
    machine = _numbers(meminfo)
    total, available = machine.get("MemTotal", 0) * 1024, machine.get("MemAvailable", 0) * 1024
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    if limit is None or used is None or not 0 < limit < total:
        return Memory(total, available)
    cached = _numbers(group / "memory.stat").get("inactive_file", 0)
    return Memory(limit, max(1, min(available, limit - used + cached)))


def _numbers(path: pathlib.Path) -> Mapping[str, int]:
    """By the name at the beginning of each line."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        words = (line.replace(":", " ").split() for line in path.read_text().splitlines())
        return {name: int(number) for name, number, *_ in words}
    return {}


def _number(path: pathlib.Path) -> int | None:
    """None where there is none, or no limit."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None
