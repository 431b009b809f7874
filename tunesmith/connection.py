"""How the SDK reaches a service: address, channel, deadline, metadata, error translation."""

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tunesmith.errors import TunesmithError
from tunesmith.local.errors import LocalError
from tunesmith.local.ports import DEFAULT_PORTS, LOOPBACK
from tunesmith.local.state import data_directory
from tunesmith.rpc_errors import translate

Response = TypeVar("Response")
Stub = TypeVar("Stub")

CALL_SECONDS = 30.0
UPLOAD_SECONDS = 3600.0
PLAN_SECONDS = 150.0  # tokens of a new dataset are counted first
CHAT_SECONDS = 600.0  # the first answer of a model includes loading it

# Repeating these changes nothing, so gRPC may do it when a service is restarting.
_REPEATABLE = {
    "TaskManagerService": (
        "GetTask",
        "ListTasks",
        "PlanTask",
        "CancelTask",
        "PauseTask",
        "ResumeTask",
        "CreateTask",
        "ListEvents",
        "ListMetrics",
    ),
    "DatasetService": (
        "GetDataset",
        "ListDatasets",
        "CompleteDatasetUpload",
        "AbortDatasetUpload",
        "PreviewDataset",
        "AnalyzeDataset",
    ),
    "ArtifactService": ("GetArtifact", "ListArtifacts", "PinArtifact", "UnpinArtifact"),
    "ModelService": (
        *("GetBaseModel", "ListBaseModels"),
        *("GetModel", "ListModels", "GetModelVersion", "ListModelVersions", "SetModelAlias"),
    ),
    "InferenceService": ("ListLoadedModels", "LoadModel"),
}
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [
                    {"service": f"tunesmith.v1.{service}", "method": method}
                    for service, methods in _REPEATABLE.items()
                    for method in methods
                ],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A stack that was just restarted is found again within a second, not within gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)


def resolve_address(service: str, given: str | None = None) -> str:
    """Where a service is: the argument, TUNESMITH_<SERVICE>_ADDRESS, the local stack that runs, the default port: the first."""
    if address := given or os.environ.get(f"TUNESMITH_{service.upper()}_ADDRESS"):
        return address
    try:
        stack = data_directory().read_stack()
    except LocalError:
        stack = None
    return (stack.addresses if stack else {}).get(service) or f"{LOOPBACK}:{DEFAULT_PORTS[service]}"


def open_channel(address: str) -> grpc.Channel:
    """A channel to `address`; TLS when TUNESMITH_TLS_CA_FILE names the certificate authority."""
    if ca_file := os.environ.get("TUNESMITH_TLS_CA_FILE"):
        credentials = grpc.ssl_channel_credentials(Path(ca_file).read_bytes())
        return grpc.secure_channel(address, credentials, options=_OPTIONS)
    return grpc.insecure_channel(address, options=_OPTIONS)


class Connection:
    """One service at one address. Every call gets a deadline, an x-request-id, the API key, and the SDK's errors."""

    def __init__(self, service: str, address: str) -> None:
        self.service = service
        self.address = address
        self.channel = open_channel(address)
        self._stubs: dict[object, Any] = {}

    def stub(self, kind: Callable[[grpc.Channel], Stub]) -> Stub:
        """The stub of this class on this connection; made once."""
        if kind not in self._stubs:
            self._stubs[kind] = kind(self.channel)
        stub: Stub = self._stubs[kind]
        return stub

    def call(self, method: Callable[..., Response], request: Any, timeout: float = CALL_SECONDS) -> Response:
        """A unary or client-streaming call; `request` is a message or an iterator of messages, whose own errors are raised."""
        broken: list[Exception] = []
        given = _told(request, broken) if isinstance(request, Iterator) else request
        try:
            return method(given, timeout=timeout, metadata=_metadata())
        except grpc.RpcError as error:
            raise (broken[0] if broken else self.translate(error)) from error

    def stream(self, method: Callable[..., Any], request: Any, timeout: float | None = None) -> Iterator[Any]:
        """A server-streaming call; ended when the iterator is closed."""
        call = method(request, timeout=timeout, metadata=_metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.translate(error) from error
        finally:
            call.cancel()

    def translate(self, error: grpc.RpcError) -> TunesmithError:
        """The SDK's error for a gRPC error of this service."""
        return translate(error, self.service, self.address)


def _told(messages: Iterator[Any], broken: list[Exception]) -> Iterator[Any]:
    """The messages; what breaks them is put into `broken`, since gRPC ends the call and says only that something has."""
    try:
        yield from messages
    except Exception as error:
        broken.append(error)
        raise


def _metadata() -> tuple[tuple[str, str], ...]:
    metadata = [("x-request-id", str(uuid.uuid4()))]
    if key := os.environ.get("TUNESMITH_API_KEY"):
        metadata.append(("authorization", f"Bearer {key}"))
    return tuple(metadata)


class Connections:
    """The services by name, connected on first use; base of every group of verbs."""

    def __init__(self, addresses: dict[str, str | None]) -> None:
        self._given = addresses
        self._open: dict[str, Connection] = {}
        self._lock = threading.Lock()

    def connection(self, service: str) -> Connection:
        """The connection to a service."""
        with self._lock:
            if service not in self._open:
                self._open[service] = Connection(service, resolve_address(service, self._given.get(service)))
            return self._open[service]

    def close(self) -> None:
        """Close every channel; calls that run are cancelled. A later call connects anew."""
        with self._lock:
            for connection in self._open.values():
                connection.channel.close()
            self._open.clear()
