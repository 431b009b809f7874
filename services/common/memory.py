"""Main memory that processes can have: the machine's, or less in a container that is limited; used by trainer and inference."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping

_MEMINFO = pathlib.Path("/proc/meminfo")
_GROUP = pathlib.Path("/sys/fs/cgroup")
"""In a container, its own group."""
_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Limit, use, and what of that are caches, of cgroup v2 and of v1; there is one of the two at most."""


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
    for limit_file, used_file, stat_file, caches in _FILES:
        limit, used = _number(group / limit_file), _number(group / used_file)
        if limit is not None and used is not None and 0 < limit < total:
            cached = _numbers(group / stat_file).get(caches, 0)
            return Memory(limit, max(1, min(available, limit - used + cached)))
    return Memory(total, available)


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
