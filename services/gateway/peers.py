"""The other services over gRPC: deadline, request id, key, and failures as ServiceError; made by `__main__`."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from typing import Any

import grpc

from services.common.channels import call_metadata, connect, translated
from services.common.errors import ServiceError
from services.gateway.settings import GatewaySettings
from tunesmith.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from tunesmith.v1.dataset_service_pb2_grpc import DatasetServiceStub
from tunesmith.v1.inference_service_pb2_grpc import InferenceServiceStub
from tunesmith.v1.model_service_pb2_grpc import ModelServiceStub
from tunesmith.v1.task_manager_service_pb2_grpc import TaskManagerServiceStub


class Peer:
    """One other service; `timeout` seconds are the deadline of calls that name none."""

    def __init__(self, name: str, channel: grpc.aio.Channel, *, key: str = "", timeout: float = 60.0) -> None:
        self.name = name
        self.channel = channel
        self._key = key
        self._timeout = timeout

    async def call(self, method: Any, request: Any, timeout: float | None = None) -> Any:
        """The answer of a unary or client-streaming method; raises ServiceError. Cancelling it cancels the call."""
        with self._failures():
            return await method(request, timeout=timeout or self._timeout, metadata=call_metadata(self._key))

    async def stream(self, method: Any, request: Any, timeout: float | None = None) -> AsyncGenerator[Any]:
        """The messages of a server-streaming method; raises ServiceError. Closing the iterator cancels the call."""
        call = method(request, timeout=timeout, metadata=call_metadata(self._key))
        try:
            with self._failures():
                async for message in call:
                    yield message
        finally:
            call.cancel()

    async def upload(self, method: Any, requests: AsyncIterable[Any], timeout: float) -> Any:
        """The answer to a stream of requests; what the iterator raises ends the call and is raised."""
        call = method(timeout=timeout, metadata=call_metadata(self._key))
        try:
            with self._failures():
                # A peer that has refused stops reading; its answer says why.
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    async for request in requests:
                        await call.write(request)
                    await call.done_writing()
                return await call
        finally:
            call.cancel()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        with translated(f"{self.name.upper()}_UNAVAILABLE", self.name):
            try:
                yield
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise ServiceError("DEADLINE_EXCEEDED", f"{self.name} did not answer in time") from error
                raise


@dataclasses.dataclass(frozen=True, slots=True)
class Peers:
    """Every other service, with its stubs."""

    task_manager: Peer
    storage: Peer
    inference: Peer
    tasks: TaskManagerServiceStub
    datasets: DatasetServiceStub
    artifacts: ArtifactServiceStub
    models: ModelServiceStub
    chat: InferenceServiceStub

    @classmethod
    def of(cls, task_manager: Peer, storage: Peer, inference: Peer) -> "Peers":
        """With the stubs on the channels of the peers."""
        return cls(
            task_manager,
            storage,
            inference,
            TaskManagerServiceStub(task_manager.channel),
            DatasetServiceStub(storage.channel),
            ArtifactServiceStub(storage.channel),
            ModelServiceStub(storage.channel),
            InferenceServiceStub(inference.channel),
        )


@contextlib.asynccontextmanager
async def connected(settings: GatewaySettings) -> AsyncIterator[Peers]:
    """The peers inside the block; they are connected to on first use."""
    ca = settings.peer_tls_ca.read_bytes() if settings.peer_tls_ca else None
    key, timeout = settings.peer_api_key, settings.call_timeout.total_seconds()
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for name in ("task_manager", "storage", "inference"):
            address = getattr(settings, f"{name}_address")
            channel = await stack.enter_async_context(connect(address, api_key=key, tls_ca=ca))
            peers.append(Peer(name, channel, key=key, timeout=timeout))
        yield Peers.of(*peers)
