"""A service that only serves health; its log lines are JSON as the real ones'."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio


def log(event: str, **values: object) -> None:
    entry = {"timestamp": "2026-01-02T03:04:05Z", "level": "info", "event": event, **values}
    sys.stderr.write(json.dumps(entry) + "\n")
    sys.stderr.flush()


async def serve(name: str, register: Callable[[grpc.aio.Server], None] = lambda server: None) -> signal.Signals:
    """Serve until a signal; answers with it."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    register(server)
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(os.environ[f"TUNESMITH_{name.upper()}_LISTEN"])
    await server.start()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    log("service.started", name=name)
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[signal.Signals] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda number=number: stop.done() or stop.set_result(number))
    received = await stop
    log("service.stopped", name=name)
    await server.stop(0.2)
    return received
