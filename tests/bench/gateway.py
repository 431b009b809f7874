"""What the gateway costs: CPU per streamed token and memory, with many chat and event streams at once, and with a big file.

`make bench` runs it. Scripted services answer at once, so everything measured is the gateway's own work. Its CPU seconds are read
from the system: the speed of this client does not matter.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator

import grpc
import httpx2
import psutil

from services.gateway import identifiers
from tests.ports import free_port
from tunesmith.v1 import (
    dataset_service_pb2_grpc,
    inference_service_pb2_grpc,
    task_manager_service_pb2,
    task_manager_service_pb2_grpc,
)
from tunesmith.v1 import inference_service_pb2 as inference
from tunesmith.v1.dataset_pb2 import Dataset
from tunesmith.v1.task_event_pb2 import StepMetrics, StreamEnd, TaskEvent
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

CHATS, TOKENS = 500, 50
WATCHERS, EVENTS = 200, 200
FILE_MIB = 511
FORM = (
    b'content-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b\r\n'
    b'content-disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
)
TASK = f"tasks/{uuid.UUID(int=1)}"
ASK = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "stream": True}


class Inference(inference_service_pb2_grpc.InferenceServiceServicer):
    async def StreamChat(self, request, context):
        for _ in range(TOKENS):
            yield inference.StreamChatResponse(delta=" word")
            await asyncio.sleep(0)
        yield inference.StreamChatResponse(finish_reason=inference.FINISH_REASON_STOP)


class Tasks(task_manager_service_pb2_grpc.TaskManagerServiceServicer):
    async def GetTask(self, request, context):
        return Task(name=TASK, head_sequence=EVENTS, spec=TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny")))

    async def WatchTask(self, request, context):
        for sequence in range(1, EVENTS + 1):
            event = TaskEvent(sequence=sequence, step_metrics=StepMetrics(step=sequence, values={"loss": 1.0}))
            yield task_manager_service_pb2.WatchTaskResponse(events=[event])
            await asyncio.sleep(0)
        yield task_manager_service_pb2.WatchTaskResponse(end=StreamEnd(state=Task.SUCCEEDED))


class Datasets(dataset_service_pb2_grpc.DatasetServiceServicer):
    async def UploadDataset(self, request_iterator, context):
        size = sum([len(request.chunk) async for request in request_iterator])
        return Dataset(name=f"datasets/{uuid.UUID(int=1)}", size_bytes=size)


@contextlib.asynccontextmanager
async def scripted_services() -> AsyncIterator[str]:
    server = grpc.aio.server()
    dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(Datasets(), server)
    inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(Inference(), server)
    task_manager_service_pb2_grpc.add_TaskManagerServiceServicer_to_server(Tasks(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@contextlib.contextmanager
def gateway(services: str):
    port = free_port()
    settings = {f"TUNESMITH_GATEWAY_{name}_ADDRESS": services for name in ("TASK_MANAGER", "STORAGE", "INFERENCE")}
    settings |= {"TUNESMITH_GATEWAY_LISTEN": f"127.0.0.1:{port}", "TUNESMITH_GATEWAY_REQUESTS_PER_SECOND": "0"}
    settings |= {"TUNESMITH_GATEWAY_ADDRESS_REQUESTS_PER_SECOND": "0"}
    command = [sys.executable, "-m", "services.gateway"]
    with subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid), f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def chat(client: httpx2.AsyncClient) -> int:
    async with client.stream("POST", "/v1/chat/completions", json=ASK) as answer:
        return sum([chunk.count(b"data: ") async for chunk in answer.aiter_raw()]) - 3  # role, reason, [DONE]


async def watch(client: httpx2.AsyncClient) -> int:
    path = f"/v1/fine_tuning/jobs/{identifiers.job_id(TASK)}/events?stream=true"
    async with client.stream("GET", path) as answer:
        return sum([chunk.count(b"\ndata: ") async for chunk in answer.aiter_raw()])


async def upload(url: str, process: psutil.Process) -> dict[str, float]:
    """A file as large as is permitted: its speed, and the most memory the gateway took meanwhile."""
    piece = b"x" * 2**20

    async def form() -> AsyncIterator[bytes]:
        yield b"--b\r\n" + FORM
        for _ in range(FILE_MIB):
            yield piece
        yield b"\r\n--b--\r\n"

    peak, before, began = 0, sum(process.cpu_times()[:2]), time.monotonic()
    async with httpx2.AsyncClient(base_url=url, timeout=300) as client:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        sending = asyncio.create_task(client.post("/v1/files", content=form(), headers=headers))
        while not sending.done():
            peak = max(peak, process.memory_info().rss)
            await asyncio.wait((sending,), timeout=0.05)
    answer = sending.result()
    assert answer.json()["bytes"] == FILE_MIB * 2**20, answer.text
    return {
        "mib": FILE_MIB,
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(sum(process.cpu_times()[:2]) - before, 2),
        "peak_memory_mb": round(peak / 1e6, 1),
    }


async def direct(services: str) -> float:
    """CPU microseconds a token for the same answers over gRPC alone, of client and scripted service together."""
    async with grpc.aio.insecure_channel(services) as channel:
        stub = inference_service_pb2_grpc.InferenceServiceStub(channel)

        async def one() -> None:
            async for _ in stub.StreamChat(inference.StreamChatRequest(model="tiny")):
                pass

        began = time.process_time()
        await asyncio.gather(*(one() for _ in range(CHATS)))
        return round((time.process_time() - began) / (CHATS * TOKENS) * 1e6, 1)


async def measured(process: psutil.Process, streams: list, each: int) -> dict[str, float]:
    """What some streams cost; fails when one of them was not whole."""
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    counts = await asyncio.gather(*streams)
    assert set(counts) == {each}, set(counts)
    cpu, total = sum(process.cpu_times()[:2]) - before, each * len(streams)
    return {
        "streams": len(streams),
        "seconds": round(time.monotonic() - began, 2),
        "cpu_microseconds_each": round(cpu / total * 1e6, 1),
        "memory_mb": round(process.memory_info().rss / 1e6, 1),
    }


async def main() -> None:
    async with scripted_services() as services:
        limits = httpx2.Limits(max_connections=None)
        with gateway(services) as (process, url):
            async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
                await until_ready(client)
                idle = round(process.memory_info().rss / 1e6, 1)
                report = {
                    "load_average": os.getloadavg()[0],
                    "memory_mb_idle": idle,
                    "direct_cpu_microseconds_each": await direct(services),
                    "chat": await measured(process, [chat(client) for _ in range(CHATS)], TOKENS),
                    "events": await measured(process, [watch(client) for _ in range(WATCHERS)], EVENTS),
                    "upload": await upload(url, process),
                }
    print(json.dumps(report, indent=2))


async def until_ready(client: httpx2.AsyncClient) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError):
            if (await client.get("/healthz")).status_code == 200:
                return
        await asyncio.sleep(0.05)
    raise TimeoutError("the gateway did not start")


if __name__ == "__main__":
    asyncio.run(main())
