"""ServiceError to google.rpc.Status and back; used by the interceptor and by the clients between services."""

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import ServiceError

DOMAIN = "tunesmith"
# Trailers are capped at 8 KiB by default on the client's side; base64 adds a third.
_MAX_DETAIL_BYTES = 3072


def to_status(error: ServiceError) -> status_pb2.Status:
    """The Status with exactly one ErrorInfo, and a BadRequest when there are violations; as many as fit into the trailers."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    info.metadata["class"] = error.error_class.value
    info.metadata["hint"] = error.hint
    status = status_pb2.Status(code=code_pb2.Code.Value(error.status), message=_cut(error.message))
    status.details.append(_packed(info))
    if bad_request := _bad_request(error):
        status.details.append(_packed(bad_request))
    return status


def from_rpc_error(error: grpc.RpcError) -> status_pb2.Status | None:
    """The Status a failed call carries, None when it has none (the connection broke, a proxy answered)."""
    try:
        return rpc_status.from_call(error)
    except ValueError:
        return None


def reason_of(error: grpc.RpcError) -> str:
    """The catalogue reason a failed call carries, empty when it has none."""
    status = from_rpc_error(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info):
            return str(info.reason)
    return ""


def _bad_request(error: ServiceError) -> error_details_pb2.BadRequest | None:
    request = error_details_pb2.BadRequest()
    size = 0
    for violation in error.violations:
        size += len(violation.field.encode()) + len(violation.description.encode()) + len(error.reason) + 8
        if size > _MAX_DETAIL_BYTES:
            break
        request.field_violations.add(field=violation.field, description=violation.description, reason=error.reason)
    return request if request.field_violations else None


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _cut(text: str) -> str:
    # It travels twice, once percent-encoded: up to three bytes for one byte of UTF-8.
    encoded = text.encode()
    return text if len(encoded) <= 600 else encoded[:597].decode(errors="ignore") + "..."
