"""Calls to other services: deadlines, keys and request ids go out, failures come back as errors of the catalogue."""

import asyncio
import contextlib
import threading

import grpc
import pytest
import structlog

from services.common.config import ConfigError
from services.common.errors import ServiceError
from services.gateway.peers import Peer, connected
from tests.fake_platform import refuse
from tunesmith.v1 import dataset_service_pb2 as datasets
from tunesmith.v1.inference_service_pb2 import StreamChatRequest, StreamChatResponse
from tunesmith.v1.task_manager_service_pb2 import CreateTaskRequest, GetTaskRequest
from tunesmith.v1.task_pb2 import Task

REQUEST = StreamChatRequest(model="tiny", messages=[{"role": "user", "content": "x"}])


@pytest.fixture
async def peers(settings):
    async with connected(settings) as peers:
        yield peers


async def test_the_request_id_and_the_key_go_out(platform, peers) -> None:
    structlog.contextvars.bind_contextvars(request_id="req-1")
    peer = Peer("task_manager", peers.task_manager.channel, key="sk-inside")
    await peer.call(peers.tasks.CreateTask, CreateTaskRequest(task=Task(display_name="x")))
    (metadata,) = platform.tasks.metadata
    assert (metadata["x-request-id"], metadata["authorization"]) == ("req-1", "Bearer sk-inside")


async def test_what_a_service_refuses_keeps_reason_and_hint(platform, peers) -> None:
    with pytest.raises(ServiceError) as caught:
        await peers.task_manager.call(peers.tasks.GetTask, GetTaskRequest(name="tasks/none"))
    assert (caught.value.reason, caught.value.hint) == ("TASK_NOT_FOUND", "List them.")


async def test_bad_fields_are_passed_on(platform, peers) -> None:
    async def source():
        yield datasets.UploadDatasetRequest(header=datasets.DatasetHeader(display_name="x"))
        yield datasets.UploadDatasetRequest(chunk=b"assistent")

    with pytest.raises(ServiceError) as caught:
        await peers.storage.upload(peers.datasets.UploadDataset, source(), 10)
    (violation,) = caught.value.violations
    assert (caught.value.reason, violation.field) == ("DATASET_INVALID", "line 1: messages[1].role")


async def test_a_service_that_is_too_slow_is_a_deadline_exceeded(platform, peers) -> None:
    released = threading.Event()

    def slow(request, context):
        released.wait(10)
        yield StreamChatResponse()

    platform.inference.script = slow
    with pytest.raises(ServiceError) as caught:
        [piece async for piece in peers.inference.stream(peers.chat.StreamChat, REQUEST, timeout=0.1)]
    released.set()
    assert caught.value.reason == "DEADLINE_EXCEEDED"


async def test_a_service_that_is_away_is_named(settings) -> None:
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    with pytest.raises(ServiceError) as caught:
        await Peer("storage", channel).call(channel.unary_unary("/x/y"), b"")
    await channel.close()
    assert caught.value.reason == "STORAGE_UNAVAILABLE"


async def test_closing_a_stream_cancels_the_call(platform, peers) -> None:
    cancelled = threading.Event()

    def endless(request, context):
        context.add_callback(cancelled.set)
        while not cancelled.wait(0.005):
            yield StreamChatResponse(delta="x")

    platform.inference.script = endless
    async with contextlib.aclosing(peers.inference.stream(peers.chat.StreamChat, REQUEST)) as stream:
        assert (await anext(stream)).delta == "x"
    assert await asyncio.to_thread(cancelled.wait, 10)


async def test_an_upload_whose_source_fails_is_not_stored(platform, peers) -> None:
    async def source():
        yield datasets.UploadDatasetRequest(header=datasets.DatasetHeader(display_name="x", sha256_follows=True))
        yield datasets.UploadDatasetRequest(chunk=b"half")
        raise ServiceError("REQUEST_TOO_LARGE", "too much")

    with pytest.raises(ServiceError, match="too much"):
        await peers.storage.upload(peers.datasets.UploadDataset, source(), 10)
    assert platform.datasets.stored == []


async def test_a_refusal_in_the_middle_of_an_upload_is_told_and_not_the_broken_write(platform, peers, monkeypatch) -> None:
    monkeypatch.setattr(
        platform.datasets, "_store", lambda header, body, context: refuse(context, "RESOURCE_EXHAUSTED", "DISK_FULL", "full")
    )

    async def source():
        yield datasets.UploadDatasetRequest(header=datasets.DatasetHeader(display_name="x"))
        for _ in range(100):
            yield datasets.UploadDatasetRequest(chunk=b"x" * 1000)

    with pytest.raises(ServiceError) as caught:
        await peers.storage.upload(peers.datasets.UploadDataset, source(), 10)
    assert caught.value.reason == "DISK_FULL"


async def test_a_key_leaves_this_machine_only_over_tls(changed) -> None:
    with pytest.raises(ConfigError, match="only over TLS"):
        async with changed(storage_address="storage.example.org:50053", peer_api_key="sk-inside"):
            pass
