"""`python -m services.gateway`: wires settings, the other services and the HTTP server together."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator

import structlog
import uvicorn

from services.common import config, logs
from services.common.server import wait_for_signal
from services.gateway.app import make_app
from services.gateway.http_protocol import patient_for
from services.gateway.peers import connected
from services.gateway.settings import PREFIX, GatewaySettings

log = structlog.get_logger()

_GRACE_SECONDS = 5
_IDLE_SECONDS = 75


def main() -> None:
    """Runs the service until SIGTERM or SIGINT. Exit codes: 0 after a signal, 2 for bad settings or a taken port."""
    try:
        settings = config.load(GatewaySettings, PREFIX, os.environ)
        logs.configure("gateway", settings.log_level)
        asyncio.run(serve(settings))
    except config.ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


async def serve(settings: GatewaySettings) -> None:
    """Serves until a signal; raises ConfigError when the port is taken."""
    with listening(settings.listen) as listener:
        async with connected(settings) as peers:
            server = Server(server_config(settings, make_app(settings, peers)))
            running = asyncio.create_task(server.serve(sockets=[listener]), name="server")
            log.info("server.ready", listen=settings.listen)
            received = await wait_for_signal()
            log.info("server.stopping", signal=received.name)
            server.should_exit = True
            await running
            log.info("server.stopped")


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would send itself the signal again and end without having closed what we opened."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures nothing."""
        yield


def listening(address: str) -> socket.socket:
    """The socket at `host:port`; raises ConfigError when it cannot be had."""
    host, _, port = address.rpartition(":")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=1024)
    except (OSError, ValueError) as error:
        raise config.ConfigError(f"{PREFIX}LISTEN={address}: cannot listen there: {error}") from error
    # Connections inherit it. Without it the second piece of an answer waits until the client has told of the first: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def server_config(settings: GatewaySettings, app: object) -> uvicorn.Config:
    """How uvicorn listens; logging stays ours."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=patient_for(settings.header_timeout.total_seconds(), settings.max_connections),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


if __name__ == "__main__":
    main()
