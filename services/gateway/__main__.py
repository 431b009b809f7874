"""`python -m services.gateway`: wires settings, the other services and the HTTP server together."""

import asyncio
import math
import os
import sys

import structlog
import uvicorn

from services.common import config, logs
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
        sys.exit(asyncio.run(serve(settings)))
    except config.ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


async def serve(settings: GatewaySettings) -> int:
    """Serves until a signal; returns the exit code."""
    async with connected(settings) as peers:
        server = uvicorn.Server(server_config(settings, make_app(settings, peers)))
        log.info("server.ready", listen=settings.listen)
        await server.serve()
        log.info("server.stopped")
        return 0 if server.started else 2


def server_config(settings: GatewaySettings, app: object) -> uvicorn.Config:
    """How uvicorn listens; logging stays ours."""
    host, _, port = settings.listen.rpartition(":")
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host.strip("[]"),
        port=int(port),
        http=patient_for(settings.header_timeout.total_seconds()),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=math.ceil(_GRACE_SECONDS),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


if __name__ == "__main__":
    main()
