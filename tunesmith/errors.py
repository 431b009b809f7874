"""Every error the SDK raises: one tree, a class per thing a caller can act on. Branch on class or `reason`, never on text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field of a request."""

    field: str
    description: str
    reason: str = ""


class TunesmithError(Exception):
    """A call failed. `grpc_code` is the name of the status, for example `NOT_FOUND`; empty = the SDK itself refused."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "UNKNOWN",
        hint: str = "",
        error_class: str = "",
        violations: tuple[Violation, ...] = (),
        grpc_code: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.error_class = error_class
        self.violations = violations
        self.grpc_code = grpc_code

    def __str__(self) -> str:
        lines = [f"{self.reason}: {self.message}", *(f"  - {v.field}: {v.description}" for v in self.violations)]
        return "\n".join([*lines, f"  hint: {self.hint}"] if self.hint else lines)


class NotFound(TunesmithError):
    """The thing named does not exist, or no longer."""


class AlreadyExists(TunesmithError):
    """Something else has the name already."""


class InvalidArgument(TunesmithError):
    """The request is wrong; `violations` names the fields."""


class FailedPrecondition(TunesmithError):
    """The thing is not in a state that allows this."""


class OutOfRange(TunesmithError):
    """A cursor is older than what is kept, or ahead of the newest event."""


class PermissionDenied(TunesmithError):
    """The key is missing, wrong, or does not allow this."""


class ResourceExhausted(TunesmithError):
    """No room for this now."""


class DataLoss(TunesmithError):
    """Bytes arrived that are not the bytes that were sent."""


class DeadlineExceeded(TunesmithError):
    """No answer in time; whether the call took effect is not known."""


class Unreachable(TunesmithError):
    """The service does not answer at its address, or is shutting down."""


BY_GRPC_CODE: dict[str, type[TunesmithError]] = {
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "INVALID_ARGUMENT": InvalidArgument,
    "FAILED_PRECONDITION": FailedPrecondition,
    "OUT_OF_RANGE": OutOfRange,
    "PERMISSION_DENIED": PermissionDenied,
    "UNAUTHENTICATED": PermissionDenied,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "DATA_LOSS": DataLoss,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": Unreachable,
}
