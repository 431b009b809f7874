"""The server's edge: errors, request ids, keys, deadlines, an orderly stop; over a real connection on loopback."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common import channels, rich_status
from services.common.config import ConfigError, Secret
from services.common.errors import InvalidArgument, NotFound, ServiceError, Violation
from services.common.server import ServerSettings, serving
from tests.ports import free_port
from tunesmith.v1 import dataset_pb2
from tunesmith.v1 import dataset_service_pb2 as messages
from tunesmith.v1 import dataset_service_pb2_grpc as stubs

SERVICE = "tunesmith.v1.DatasetService"


class ScriptedServicer(stubs.DatasetServiceServicer):
    """Does what the name in the request says."""

    def __init__(self, stopping: asyncio.Event) -> None:
        self.stopping = stopping

    async def GetDataset(self, request, context):
        if request.name == "slow":
            await asyncio.Event().wait()
        self.raise_for(request.name)
        return dataset_pb2.Dataset(name=request.name)

    async def DownloadDataset(self, request, context):
        yield messages.DownloadDatasetResponse(chunk=b"first")
        self.raise_for(request.name)
        if request.name == "endless":
            await self.stopping.wait()
            raise ServiceError("SERVER_STOPPING", "the server stops")

    async def UploadDataset(self, request_iterator, context):
        count = 0
        async for _ in request_iterator:
            count += 1
        self.raise_for(f"{count} messages")
        return dataset_pb2.Dataset(name=str(count))

    def raise_for(self, name: str) -> None:
        if name == "bad":
            raise InvalidArgument(Violation("name", "is bad"))
        if name == "absent":
            raise NotFound("DATASET_NOT_FOUND", "datasets/absent")
        if name in ("crash", "3 messages"):
            raise RuntimeError("a secret of the house")


@contextlib.asynccontextmanager
async def served(
    settings: ServerSettings, *, unary_timeout: float = 5.0, slow_methods: Mapping[str, float] | None = None
) -> AsyncIterator[None]:
    stopping = asyncio.Event()

    def register(server: grpc.aio.Server) -> None:
        stubs.add_DatasetServiceServicer_to_server(ScriptedServicer(stopping), server)

    limits = {"unary_timeout": unary_timeout, "slow_methods": slow_methods}
    async with serving(settings, register, [SERVICE], **limits, stopping=stopping, grace=10.0):
        yield


@contextlib.asynccontextmanager
async def edge(*, api_key: str = "", **limits: Any) -> AsyncIterator[tuple[stubs.DatasetServiceStub, grpc.aio.Channel]]:
    settings = ServerSettings(listen=f"127.0.0.1:{free_port()}", api_key=Secret(api_key))
    async with channels.connect(settings.listen) as channel, served(settings, **limits):
        yield stubs.DatasetServiceStub(channel), channel


async def failure(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return caught.value


async def read_to_the_end(call, first: asyncio.Event) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            first.set()
    return caught.value


def get(stub, name, **options):
    return stub.GetDataset(messages.GetDatasetRequest(name=name), **options)


def download(stub, name):
    return stub.DownloadDataset(messages.DownloadDatasetRequest(name=name))


async def test_an_answer_passes_through() -> None:
    async with edge() as (stub, _):
        assert (await get(stub, "datasets/1")).name == "datasets/1"


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("bad", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ("absent", grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND"),
        ("crash", grpc.StatusCode.INTERNAL, "INTERNAL"),
    ],
)
@pytest.mark.parametrize("call", [get, download])
async def test_what_is_raised_arrives_as_status_with_reason(call, name, code, reason) -> None:
    async with edge() as (stub, _):
        error = await failure(call(stub, name))
    assert error.code() is code
    assert rich_status.reason_of(error) == reason
    assert error.details()


async def test_a_crash_tells_the_request_id_and_nothing_else() -> None:
    async with edge() as (stub, _):
        error = await failure(get(stub, "crash", metadata=(("x-request-id", "r-1"),)))
    assert "r-1" in error.details()
    assert "secret of the house" not in error.details()


async def test_an_upload_that_fails_is_translated_too() -> None:
    async with edge() as (stub, _):
        requests = [messages.UploadDatasetRequest(chunk=b"x")] * 3
        error = await failure(stub.UploadDataset(iter(requests)))
        assert (await stub.UploadDataset(iter(requests[:2]))).name == "2"
    assert rich_status.reason_of(error) == "INTERNAL"


async def test_the_request_id_comes_back() -> None:
    async with edge() as (stub, _):
        call = get(stub, "datasets/1", metadata=(("x-request-id", "r-2"),))
        await call
        assert dict(await call.trailing_metadata())["x-request-id"] == "r-2"
        made_up = get(stub, "datasets/1")
        await made_up
        assert dict(await made_up.trailing_metadata())["x-request-id"]


async def test_a_unary_call_ends_at_the_servers_limit() -> None:
    async with edge(unary_timeout=0.05) as (stub, _):
        error = await failure(get(stub, "slow"))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert rich_status.reason_of(error) == "DEADLINE_EXCEEDED"


async def test_a_slow_method_has_a_limit_of_its_own() -> None:
    async with edge(unary_timeout=60.0, slow_methods={f"/{SERVICE}/GetDataset": 0.05}) as (stub, _):
        assert (await failure(get(stub, "slow"))).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_that_the_stop_cancels_may_clean_up_first() -> None:
    cleaned = False

    class Cleaning(stubs.DatasetServiceServicer):
        async def GetDataset(self, request, context):
            nonlocal cleaned
            try:
                entered.set()
                await asyncio.Event().wait()
            finally:
                for _ in range(20):
                    await asyncio.sleep(0)
                await asyncio.to_thread(bool)
                cleaned = True

    entered = asyncio.Event()
    settings = ServerSettings(listen=f"127.0.0.1:{free_port()}")
    async with channels.connect(settings.listen) as channel:
        async with serving(
            settings, lambda server: stubs.add_DatasetServiceServicer_to_server(Cleaning(), server), [SERVICE], grace=1.0
        ):
            call = get(stubs.DatasetServiceStub(channel), "datasets/1")
            failing = asyncio.create_task(failure(call))
            await entered.wait()
        assert cleaned
        await failing


async def test_without_the_key_nothing_but_health_answers() -> None:
    async with edge(api_key="k") as (stub, channel):
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            assert rich_status.reason_of(await failure(get(stub, "datasets/1", metadata=metadata))) == "UNAUTHENTICATED"
        assert rich_status.reason_of(await failure(download(stub, "datasets/1"))) == "UNAUTHENTICATED"
        assert await get(stub, "datasets/1", metadata=(("authorization", "Bearer k"),))
        health = health_pb2_grpc.HealthStub(channel)
        assert (
            await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        ).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_service() -> None:
    async with edge() as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = [service.name async for reply in call for service in reply.list_services_response.service]
    assert {SERVICE, "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} <= set(names)


async def test_on_stop_streams_end_themselves_with_a_reason_to_come_back() -> None:
    settings = ServerSettings(listen=f"127.0.0.1:{free_port()}")
    # Who reads is still connected when the server has stopped.
    async with channels.connect(settings.listen) as channel:
        first = asyncio.Event()
        async with served(settings):
            stub = stubs.DatasetServiceStub(channel)
            reading = asyncio.ensure_future(read_to_the_end(download(stub, "endless"), first))
            await first.wait()
        error = await reading
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert rich_status.reason_of(error) == "SERVER_STOPPING"


async def test_a_taken_port_is_a_config_error_that_names_it() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        settings = ServerSettings(listen=f"127.0.0.1:{holder.getsockname()[1]}")
        with pytest.raises(ConfigError, match=settings.listen):
            async with serving(settings, lambda server: None, []):
                pass


async def test_a_peer_that_is_away_becomes_the_named_reason() -> None:
    async with channels.connect(f"127.0.0.1:{free_port()}") as channel:
        with (
            pytest.raises(ServiceError, match="storage did not answer") as caught,
            channels.translated("STORAGE_UNAVAILABLE", "storage"),
        ):
            await get(stubs.DatasetServiceStub(channel), "datasets/1", timeout=2)
    assert caught.value.reason == "STORAGE_UNAVAILABLE"


async def test_what_a_peer_says_passes_through_whole() -> None:
    async with edge() as (stub, _):
        with pytest.raises(ServiceError) as caught, channels.translated("STORAGE_UNAVAILABLE", "storage"):
            await get(stub, "bad")
        with pytest.raises(ServiceError) as absent, channels.translated("STORAGE_UNAVAILABLE", "storage"):
            await get(stub, "absent")
    assert caught.value.reason == "INVALID_FIELD"
    assert caught.value.violations == (Violation("name", "is bad"),)
    assert absent.value.metadata == {"resource": "datasets/absent"}
    assert absent.value.hint


@pytest.mark.parametrize("address", ["10.0.0.1:1", "storage.example.org:1", "0.0.0.0:1"])
def test_a_key_leaves_the_machine_only_over_tls(address: str) -> None:
    with pytest.raises(ConfigError, match="only over TLS"):
        channels.connect(address, api_key="k")


async def test_a_key_may_travel_on_this_machine() -> None:
    async with channels.connect("127.0.0.1:1", api_key="k"):
        pass
