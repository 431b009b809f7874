"""The C library's heap, told to keep what uploads free; used by `__main__`.

By itself glibc gives large blocks and the end of its heap back to the system with every message, and takes them again with the
next: the page faults of an upload of 128 MiB cost more than its SHA-256. Other libraries have other heaps and are left alone.
"""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT_BYTES = 32 * 2**20
# Above the largest message that gRPC takes.
_LARGE_BYTES = 8 * 2**20
# Every arena keeps memory of its own, and one is enough for what two processors allocate.
_ARENAS = 2


def keep_freed_memory() -> None:
    """At most 32 MiB stay with the process, in two pools."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
