"""/healthz: the process answers. /readyz: so do the services behind it."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway.peers import Peer, Peers

_PROBE_SECONDS = 1.0


class Health:
    """Both need no key: a load balancer has none."""

    def __init__(self, peers: Peers) -> None:
        self._peers = (peers.task_manager, peers.storage, peers.inference)

    async def live(self, request: Request) -> Response:
        """GET /healthz."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """GET /readyz; 503 names what does not serve."""
        found = await asyncio.gather(*(_is_serving(peer) for peer in self._peers))
        services = {peer.name: "serving" if serving else "away" for peer, serving in zip(self._peers, found, strict=True)}
        return JSONResponse({"status": "ok" if all(found) else "degraded", "services": services}, 200 if all(found) else 503)


async def _is_serving(peer: Peer) -> bool:
    stub = health_pb2_grpc.HealthStub(peer.channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
