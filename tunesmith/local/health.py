"""Whether a service says that it serves: grpc.health.v1, the gateway /healthz; used by the supervisor, `status` and `doctor`."""

import asyncio
import os
import urllib.error
import urllib.request

# The supervisor starts processes while gRPC has threads; they exec at once, so gRPC need not prepare for forks.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROBE_TIMEOUT_SECONDS = 1.0
SERVING = "SERVING"
HTTP_SERVICES = ("gateway",)


async def is_serving(address: str, *, http: bool = False) -> bool:
    """True when the service at `address` answers SERVING."""
    if http:
        return await asyncio.to_thread(state_of, address, http=True) == SERVING
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_SECONDS
            )
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def state_of(address: str, *, http: bool = False) -> str:
    """`SERVING`, another health state, or `unreachable`; blocks for at most a second."""
    if http:
        return _http_state_of(address)
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return "unreachable"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _http_state_of(address: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=PROBE_TIMEOUT_SECONDS) as answer:  # our own http URL
            return SERVING if answer.status == 200 else "unreachable"
    except (urllib.error.URLError, OSError):
        return "unreachable"
