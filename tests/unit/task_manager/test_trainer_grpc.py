"""What a trainer tells, over real gRPC, and who is spoken to over TLS."""

import datetime
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from services.common.channels import connect
from services.common.config import ConfigError
from services.common.errors import NotFound, ServiceError, Unavailable
from services.common.interceptors import EdgeInterceptor
from services.task_manager import trainer_grpc
from services.task_manager.trainer_grpc import GrpcTrainer, GrpcTrainers
from tunesmith.v1 import task_event_pb2, trainer_service_pb2, trainer_service_pb2_grpc


class Peer(trainer_service_pb2_grpc.TrainerServiceServicer):  # type: ignore[misc]
    """Answers with what the test says."""

    def __init__(self) -> None:
        self.capacity = trainer_service_pb2.Capacity(total_processes=3, labels={"zone": "a"}, free_memory_bytes=7, device="cpu")

    async def GetCapacity(self, request: Any, context: Any) -> trainer_service_pb2.Capacity:
        return self.capacity

    async def CancelRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        raise NotFound("RUN_NOT_FOUND", request.name)

    async def StreamRunEvents(self, request: Any, context: Any) -> AsyncIterator[trainer_service_pb2.StreamRunEventsResponse]:
        yield trainer_service_pb2.StreamRunEventsResponse(heartbeat=task_event_pb2.Heartbeat())


@pytest.fixture
async def peer() -> AsyncIterator[tuple[Peer, GrpcTrainer, grpc.aio.Server]]:
    servicer, server = Peer(), grpc.aio.server(interceptors=[EdgeInterceptor(api_key="", unary_timeout=5.0)])
    trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = connect(f"127.0.0.1:{port}")
    yield servicer, GrpcTrainer(channel, "t:1"), server
    await channel.close()
    await server.stop(None)


async def test_what_a_trainer_tells_is_read(peer: tuple[Peer, GrpcTrainer, object]) -> None:
    _, trainer, _ = peer
    capacity = await trainer.capacity()
    assert (capacity.labels, capacity.free_memory_bytes, capacity.device) == ({"zone": "a"}, 7, "cpu")
    with pytest.raises(ServiceError, match="runs/1"):
        await trainer.cancel_run("runs/1")
    assert [message async for message in trainer.follow_run("runs/1", 0)]


async def test_one_that_cannot_be_reached_is_unavailable(peer: tuple[Peer, GrpcTrainer, Any]) -> None:
    _, trainer, server = peer
    await server.stop(None)
    with pytest.raises(Unavailable):
        await trainer.capacity()
    with pytest.raises(Unavailable):
        _ = [message async for message in trainer.follow_run("runs/1", 0)]


@pytest.mark.parametrize(("told", "after"), [(0.0, None), (75.0, datetime.timedelta(seconds=75))], ids=["relaxed", "strict"])
async def test_the_rule_of_a_strict_trainer_is_read(
    peer: tuple[Peer, GrpcTrainer, object], told: float, after: datetime.timedelta | None
) -> None:
    servicer, trainer, _ = peer
    servicer.capacity.fenced_after_seconds = told
    assert (await trainer.capacity()).fenced_after == after


async def test_a_trainer_on_another_machine_is_spoken_to_over_tls_and_one_on_this_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, bytes | None] = {}

    def connected(address: str, *, api_key: str, tls_ca: bytes | None) -> grpc.aio.Channel:
        asked[address] = tls_ca
        return connect("127.0.0.1:1")

    monkeypatch.setattr(trainer_grpc, "connect", connected)
    async with GrpcTrainers(api_key="k", tls_ca=b"pem") as trainers:
        assert trainers.at("127.0.0.1:7003") is trainers.at("127.0.0.1:7003")
        trainers.at("gpu-1.example:7003")
    assert asked == {"127.0.0.1:7003": None, "gpu-1.example:7003": b"pem"}


async def test_a_key_never_leaves_this_machine_unencrypted() -> None:
    async with GrpcTrainers(api_key="k") as trainers:
        with pytest.raises(ConfigError, match="only over TLS"):
            trainers.at("gpu-1.example:7003")
