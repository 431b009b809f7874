"""What the worker process may take from the machine; applied by `__main__` before it reads anything foreign."""

import resource

MEMORY_BYTES = 3 * 2**30
"""Address space. The largest tokenizers need about 1 GiB while they are read."""
QUICK_CPU_SECONDS = 60
LONG_CPU_SECONDS = 4 * 3600
"""Unless the caller, who knows how much there is to do, says otherwise."""


def apply(cpu_seconds: int) -> None:
    """Memory, CPU time, no core dumps. The kernel kills a process that takes more CPU time."""
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (lowest, lowest))
