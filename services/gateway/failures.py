"""Errors of the catalogue in OpenAI's shape; the one place that knows HTTP status, type and code of a reason."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse

from services.common.catalogue import ErrorClass
from services.common.errors import InvalidArgument, ServiceError, Violation
from services.gateway.parameter_names import openai_name

_STATUS = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_STATUS_OF_REASON = {
    "TOOLS_UNSUPPORTED": 400,  # no state: the model will never have them
    "MODEL_NOT_READY": 404,  # a job that has made nothing, or whose model has ended
    "METHOD_NOT_ALLOWED": 405,
    "REQUEST_TIMED_OUT": 408,
    "REQUEST_TOO_LARGE": 413,
    "MEDIA_TYPE_UNSUPPORTED": 415,
    "DISK_FULL": 507,
}
_TYPES = {401: "authentication_error", 403: "permission_error", 409: "conflict", 429: "rate_limit_error"}
_CODES = {
    "UNAUTHENTICATED": "invalid_api_key",
    "TASK_NOT_FOUND": "fine_tune_not_found",
    "DATASET_NOT_FOUND": "file_not_found",
    "BASE_MODEL_NOT_FOUND": "model_not_found",
    "REGISTERED_MODEL_NOT_FOUND": "model_not_found",
    "MODEL_VERSION_NOT_FOUND": "model_not_found",
    "ARTIFACT_NOT_FOUND": "model_not_found",
    "MODEL_NOT_READY": "model_not_found",
    "ARTIFACT_EXPIRED": "model_not_found",
    "RATE_LIMITED": "rate_limit_exceeded",
}
_PARAMETERS = {"model_not_found": "model", "tools_unsupported": "tools"}
"""What is meant where no field is named."""
_SHORTEST_RETRY_MS = 100


def refused(parameter: str, description: str, *, reason: str = "INVALID_FIELD") -> InvalidArgument:
    """A request that cannot be answered because of one parameter, named as the caller named it."""
    return InvalidArgument(Violation(parameter, description), reason=reason)


@contextlib.contextmanager
def placed(prefix: str, **options: Any) -> Iterator[None]:
    """Says where the fields stand that a refusal inside the block names."""
    try:
        yield
    except InvalidArgument as error:
        told = [Violation(prefix + each.field, each.description) for each in error.violations]
        raise InvalidArgument(*told, **{"reason": error.reason, **options}) from None


def status_of(error: ServiceError) -> int:
    """The HTTP status."""
    return _STATUS_OF_REASON.get(error.reason) or _STATUS.get(error.status, 500)


def body_of(error: ServiceError) -> dict[str, dict[str, str | None]]:
    """`{"error": {"message", "type", "param", "code"}}`; all four keys are always there."""
    status = status_of(error)
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    told = _told(error)
    message = f"{told} {error.hint}" if told.endswith((".", "!", "?")) else f"{told}. {error.hint}"
    code = _CODES.get(error.reason, error.reason.lower())
    return {"error": {"message": message, "type": kind, "param": _parameter(error, code), "code": code}}


def headers_of(error: ServiceError) -> dict[str, str]:
    """What tells a client whether and when to try again."""
    status = status_of(error)
    if status in (429, 503):
        wait = max(_SHORTEST_RETRY_MS, int(error.metadata.get("retry_after_ms", 1000)))
        return {"retry-after-ms": str(wait), "retry-after": str(math.ceil(wait / 1000))}
    # Clients repeat 408, 409 and what is above 499 by themselves; a state does not change by asking again.
    if status in (409, 501, 507) and error.error_class is not ErrorClass.TRANSIENT:
        return {"x-should-retry": "false"}
    if status == 405 and "allow" in error.metadata:
        return {"allow": error.metadata["allow"]}
    return {}


def response(error: ServiceError) -> JSONResponse:
    """The whole answer."""
    return JSONResponse(body_of(error), status_of(error), headers_of(error))


def _told(error: ServiceError) -> str:
    """The message, with the callers' names of its fields."""
    message = error.message
    for each in error.violations:
        message = message.replace(f"{each.field}: {each.description}", f"{openai_name(each.field)}: {each.description}", 1)
    return message


def _parameter(error: ServiceError, code: str) -> str | None:
    if error.violations:
        return openai_name(error.violations[0].field)
    return _PARAMETERS.get(code)
