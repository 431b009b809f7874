"""Any exception of a run to a failure of the catalogue; used by `__main__` when the run ends with one."""

from services.common.errors import ServiceError

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def as_failure(error: Exception) -> ServiceError:
    """`error` itself when it already has a reason, else the reason that fits."""
    if isinstance(error, ServiceError):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY):
        return ServiceError("OUT_OF_MEMORY", f"the training process ran out of memory: {text}")
    return ServiceError("TRAINING_FAILED", text)
