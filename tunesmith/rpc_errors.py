"""From a gRPC status with its google.rpc details to the SDK's error; used by every call of the SDK."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tunesmith.errors import BY_GRPC_CODE, TunesmithError, Violation


def translate(error: grpc.RpcError, service: str, address: str) -> TunesmithError:
    """The error to raise instead of `error`."""
    code = _code(error)
    info, violations = _details(error)
    kind = BY_GRPC_CODE.get(code, TunesmithError)
    if info is None:
        return _without_details(kind, code, str(error.details() or ""), service, address)
    return kind(
        str(error.details()),
        reason=info.reason,
        hint=info.metadata.get("hint", ""),
        error_class=info.metadata.get("class", ""),
        violations=violations,
        grpc_code=code,
    )


def _without_details(kind: type[TunesmithError], code: str, details: str, service: str, address: str) -> TunesmithError:
    """The service did not answer itself, so the message has to say which one it was."""
    if code == "UNAVAILABLE":
        hint = f"Start the stack with `tunesmith up`, or set TUNESMITH_{service.upper()}_ADDRESS to where it runs."
        return kind(
            f"{service} does not answer at {address}", reason="UNREACHABLE", hint=hint, error_class="transient", grpc_code=code
        )
    if code == "DEADLINE_EXCEEDED":
        hint = "Look at `tunesmith status` and try again."
        return kind(f"no answer in time from {service} at {address}", reason="DEADLINE_EXCEEDED", hint=hint, grpc_code=code)
    if code == "UNIMPLEMENTED":
        hint = "Client and service are of different versions, or the address is another service's."
        return kind(f"{service} at {address} does not know this call", reason="UNIMPLEMENTED", hint=hint, grpc_code=code)
    return kind(f"{service} at {address}: {details or code}", reason=code, grpc_code=code)


def _code(error: grpc.RpcError) -> str:
    code = error.code()
    return str(code.name) if code else "UNKNOWN"


def _details(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo | None, tuple[Violation, ...]]:
    try:
        status = rpc_status.from_call(error)
    except ValueError:  # code and details contradict each other: an interrupted trailer
        return None, ()
    info: error_details_pb2.ErrorInfo | None = None
    violations: list[Violation] = []
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            violations += [Violation(field.field, field.description, field.reason) for field in bad.field_violations]
    return info, tuple(violations)
