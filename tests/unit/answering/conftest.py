"""Rows to ask, an inference service over loopback, and no pauses between tries."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from services.common.interceptors import EdgeInterceptor
from services.trainer.answering import asking
from tests.unit.answering.scripted_inference import Service
from tests.unit.answering.scripted_runs import chat, write
from tunesmith.v1 import inference_service_pb2_grpc


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_FIRST_PAUSE", 0.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    write(path, [chat(f"q{n}", "even" if n % 2 == 0 else "odd") for n in range(1, 21)])
    return path


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def address(service: Service) -> AsyncIterator[str]:
    server = grpc.aio.server(interceptors=[EdgeInterceptor()])
    inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)
