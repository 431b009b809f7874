"""Any exception of a run to a failure of the catalogue; used by `__main__` when the run ends with one."""

import errno

from services.common.errors import ServiceError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def as_failure(error: Exception, longest_row: int = 0) -> ServiceError:
    """`error` itself when it already has a reason, else the reason that fits. `longest_row` in tokens, 0 = not known yet."""
    if isinstance(error, ServiceError):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in _FULL:
        return ServiceError("DISK_FULL", f"the trainer's disk is full: {text}")
    if isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY):
        metadata = {"longest_row_tokens": str(longest_row)} if longest_row else {}
        return ServiceError("OUT_OF_MEMORY", f"the training process ran out of memory: {text}", metadata=metadata)
    return ServiceError("TRAINING_FAILED", text)
