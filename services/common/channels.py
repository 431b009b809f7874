"""Channels between services: keepalive, the request id passed on, and failures as ServiceError."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2

from services.common import rich_status
from services.common.addresses import is_loopback
from services.common.catalogue import CATALOGUE
from services.common.config import ConfigError
from services.common.errors import ServiceError, Unavailable, Violation
from services.common.interceptors import REQUEST_ID

M = TypeVar("M", bound=Message)

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted peer must be found again in about a second, not after two minutes of back-off.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A list of failed runs carries their last log lines.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


def connect(address: str, *, api_key: str = "", tls_ca: bytes | None = None) -> grpc.aio.Channel:
    """A channel to another service; it connects on first use and again by itself.

    Raises ConfigError when the key would travel unencrypted.
    """
    if api_key and tls_ca is None and not is_loopback(address):
        raise ConfigError(f"{address}: an API key may leave this machine only over TLS; name the CA file")
    if tls_ca is not None:
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(tls_ca), options=_OPTIONS)
    return grpc.aio.insecure_channel(address, options=_OPTIONS)


def call_metadata(api_key: str = "") -> tuple[tuple[str, str], ...]:
    """Metadata for an outgoing call: the request id of the call being answered, and the key."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    pairs = [(REQUEST_ID, str(request_id))] if request_id else []
    if api_key:
        pairs.append(("authorization", f"Bearer {api_key}"))
    return tuple(pairs)


@contextlib.contextmanager
def translated(unavailable_reason: str, peer: str) -> Iterator[None]:
    """Failures of calls inside become ServiceErrors: what the peer said, or `unavailable_reason` when it could not be asked."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _as_service_error(error, unavailable_reason, peer) from error


def _as_service_error(error: grpc.aio.AioRpcError, unavailable_reason: str, peer: str) -> ServiceError:
    status = rich_status.from_rpc_error(error)
    info = _detail(status, error_details_pb2.ErrorInfo)
    if info is not None and info.reason in CATALOGUE and info.reason != "SERVER_STOPPING":
        bad_request = _detail(status, error_details_pb2.BadRequest)
        violations = [Violation(v.field, v.description) for v in bad_request.field_violations] if bad_request else []
        metadata = {key: value for key, value in info.metadata.items() if key not in ("class", "hint")}
        message = status.message if status else ""
        return ServiceError(info.reason, message, hint=info.metadata.get("hint", ""), metadata=metadata, violations=violations)
    detail = error.details() or code_pb2.Code.Name(error.code().value[0])
    # gRPC itself says so, and would say it every time; a service that has no room says it with a reason of its own.
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in detail:
        return ServiceError("REQUEST_TOO_LARGE", f"{peer} takes no message as large as this: {detail}")
    return Unavailable(unavailable_reason, f"{peer} did not answer: {detail}")


def _detail(status: Any, kind: Callable[[], M]) -> M | None:
    for packed in status.details if status else ():
        message = kind()
        if packed.Unpack(message):
            return message
    return None
