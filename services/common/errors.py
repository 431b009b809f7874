"""The one error tree; everything a caller can see is raised from here and translated once, in `interceptors`."""

import dataclasses
from collections.abc import Mapping, Sequence

from services.common.catalogue import CATALOGUE, ErrorClass


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """One bad field: `field` is its path in the request (`task.spec.fine_tuning.dataset`), `description` says what and why."""

    field: str
    description: str


class ServiceError(Exception):
    """A failure with a reason from the catalogue; the status, the class and the default hint follow from the reason."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        hint: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        entry = CATALOGUE[reason]
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.status = entry.status
        self.error_class: ErrorClass = entry.error_class
        self.hint = hint or entry.hint
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)


class InvalidArgument(ServiceError):
    """The request itself is wrong; names every bad field at once."""

    def __init__(self, *violations: Violation, reason: str = "INVALID_FIELD", hint: str = "") -> None:
        message = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        super().__init__(reason, message, hint=hint, violations=violations)


class NotFound(ServiceError):
    """A named thing does not exist; `resource` is its resource name."""

    def __init__(self, reason: str, resource: str, *, message: str = "") -> None:
        super().__init__(reason, message or f"{resource} does not exist", metadata={"resource": resource})


class Unavailable(ServiceError):
    """Something this service needs is away; trying again later may work."""
