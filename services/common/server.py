"""One way to run a gRPC service: listening rules, health, reflection, channelz, and an orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import grpc
import structlog
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.addresses import is_loopback
from services.common.config import ConfigError, Secret
from services.common.interceptors import EdgeInterceptor

log = structlog.get_logger()

# Both sides agree: clients ping every 30 s also when idle, so the server must allow pings that often.
_OPTIONS = (
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_concurrent_streams", 1_000),
    ("grpc.so_reuseport", 0),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What every service can be told about its listener; services extend it with their own fields."""

    listen: str
    """Address as host:port; a host off loopback needs TLS and a key."""
    tls_cert: pathlib.Path | None = None
    """PEM certificate chain."""
    tls_key: pathlib.Path | None = None
    """PEM private key."""
    api_key: Secret = Secret("")
    """Key that callers must send as `authorization: Bearer KEY`; empty = none asked."""
    log_level: str = "info"
    """debug, info, warning or error."""

    def __post_init__(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ConfigError("TLS needs both TLS_CERT and TLS_KEY")
        if not (is_loopback(self.listen) or (self.tls_cert and self.api_key)):
            raise ConfigError(
                f"{self.listen} is reachable from outside: set TLS_CERT, TLS_KEY and API_KEY, or listen on 127.0.0.1"
            )


@contextlib.asynccontextmanager
async def serving(
    settings: ServerSettings,
    register: Callable[[grpc.aio.Server], None],
    names: Sequence[str],
    *,
    unary_timeout: float = 60.0,
    slow_methods: Mapping[str, float] | None = None,
    stopping: asyncio.Event | None = None,
    grace: float = 5.0,
) -> AsyncIterator[grpc.aio.Server]:
    """Serves inside the block. `register` adds the servicers, `names` are their full service names.

    Unary calls take at most `unary_timeout` seconds, those of `slow_methods` what is said there by full name.

    On leaving: health says NOT_SERVING, `stopping` is set so that streams end themselves with their cursor, then the rest gets
    `grace` seconds, and as long again to clean up after it was cancelled. Raises ConfigError when the port is taken.
    """
    edge = EdgeInterceptor(api_key=settings.api_key, unary_timeout=unary_timeout, slow_methods=slow_methods)
    server = grpc.aio.server(interceptors=[edge], options=_OPTIONS)
    register(server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    channelz.add_channelz_servicer(server)
    standard = (health.SERVICE_NAME, "grpc.channelz.v1.Channelz", reflection.SERVICE_NAME)
    reflection.enable_server_reflection([*names, *standard], server)
    _bind(server, settings)
    await server.start()
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("server.ready", listen=settings.listen)
    try:
        yield server
    finally:
        await health_servicer.enter_graceful_shutdown()
        if stopping is not None:
            stopping.set()
        await server.stop(grace)
        await edge.cleaned_up(grace)
        log.info("server.stopped")


async def wait_for_signal() -> signal.Signals:
    """Waits for SIGTERM or SIGINT and returns which."""
    received: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def receive(number: signal.Signals) -> None:
        if not received.done():
            received.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, receive, number)
    return await received


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> None:
    try:
        if settings.tls_cert and settings.tls_key:
            pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
            server.add_secure_port(settings.listen, grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(settings.listen)
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"cannot listen on {settings.listen}: {error}") from error
