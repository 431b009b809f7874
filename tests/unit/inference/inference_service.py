"""InferenceService over a real channel, with an engine of scripted tokens behind it."""

import asyncio
import datetime
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from inference_fakes import ARTIFACT, TASK, FakeArtifacts, FakeBundles, FakeEngine, write_adapter_weights
from tiny_model import END, tiny_tokenizer

from services.common.bundles import Bundle
from services.common.interceptors import EdgeInterceptor
from services.inference.engine import GenerationRequest
from services.inference.host import ModelHost
from services.inference.registry import Registry
from services.inference.resolver import Resolver
from services.inference.scheduler import Limits, Scheduler
from services.inference.servicer import InferenceServicer
from services.inference.worker import Worker
from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1 import inference_service_pb2_grpc

TOKENIZER = tiny_tokenizer()
END_ID = TOKENIZER.token_to_id(END)
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
HELLO = [pb2.ChatMessage(role="user", content="Hello")]
DEADLINE_SECONDS = 20.0


def saying(text: str) -> Callable[[GenerationRequest], Iterator[int]]:
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    return lambda request: itertools.chain(tokens, itertools.repeat(END_ID))


async def eventually(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not fact():
        assert time.monotonic() < deadline, "it did not become true in time"
        await asyncio.sleep(0.005)


@dataclass
class Service:
    """A running service and what a test may look at."""

    stub: inference_service_pb2_grpc.InferenceServiceStub
    engine: FakeEngine
    bundles: FakeBundles
    artifacts: FakeArtifacts

    async def chat(self, **fields: object) -> pb2.ChatResponse:
        return await self.stub.Chat(pb2.ChatRequest(**{"model": "tiny", "messages": HELLO, **fields}), timeout=DEADLINE_SECONDS)

    def stream(self, **fields: object) -> grpc.aio.UnaryStreamCall[pb2.StreamChatRequest, pb2.StreamChatResponse]:
        return self.stub.StreamChat(
            pb2.StreamChatRequest(**{"model": "tiny", "messages": HELLO, **fields}), timeout=DEADLINE_SECONDS
        )

    async def loaded(self) -> list[str]:
        return [model.model for model in (await self.stub.ListLoadedModels(pb2.ListLoadedModelsRequest())).models]


@asynccontextmanager
async def serving(model_directory: Path, tmp_path: Path) -> AsyncIterator[Service]:
    engine = FakeEngine(saying("Good day!"))
    base = Bundle("baseModels/tiny", model_directory, "baseModels/tiny", "r1")
    bundles = FakeBundles(base, Bundle(ARTIFACT, write_adapter_weights(tmp_path / "a"), "baseModels/tiny", "r1", is_adapter=True))
    artifacts = FakeArtifacts({TASK: ARTIFACT})
    with Worker("engine") as worker:
        host = ModelHost(
            resolver=Resolver(bundles, artifacts),
            worker=worker,
            scheduler=Scheduler(worker, engine, Limits(rows=4, tokens=10_000)),
            max_questions=6,
            registry=Registry(engine, max_bytes=10**9, now=lambda: NOW),
            new_seed=lambda: 77,
        )
        server = grpc.aio.server(interceptors=[EdgeInterceptor()])
        inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(InferenceServicer(host), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Service(inference_service_pb2_grpc.InferenceServiceStub(channel), engine, bundles, artifacts)
        await server.stop(0)
