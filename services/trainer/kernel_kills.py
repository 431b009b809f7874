"""Whether the kernel has ended processes for lack of memory; used by the supervisor, for whom a kill is a kill otherwise."""

import pathlib

_COUNTERS = pathlib.Path("/proc/vmstat")


def out_of_memory_kills(counters: pathlib.Path = _COUNTERS) -> int:
    """How many since the machine was started, of any program; 0 where the kernel does not count them (before Linux 4.13)."""
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
