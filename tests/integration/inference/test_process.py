"""`python -m services.inference` as a process of its own, with real weights, against a storage service over gRPC."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from inference_fakes import ARTIFACT, OTHER_ARTIFACT, TASK
from inference_storage import DirectoryStorage, serving_storage
from peft_reference import greedy

from services.common.rendering import Renderer
from services.common.rich_status import reason_of
from tunesmith.local.ports import pick_free
from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1 import inference_service_pb2_grpc

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")]

shared_process = pytest.mark.asyncio(loop_scope="module")

DEADLINE_SECONDS = 90.0
BASE = "baseModels/tiny"
QUESTION = "What is the use?"
MESSAGES = [pb2.ChatMessage(role="user", content=QUESTION)]


@dataclass
class Process:
    """The service as others see it: a port, log lines, an exit code."""

    process: asyncio.subprocess.Process
    channel: grpc.aio.Channel
    events: list[dict[str, object]] = field(default_factory=list)

    @property
    def stub(self) -> inference_service_pb2_grpc.InferenceServiceStub:
        return inference_service_pb2_grpc.InferenceServiceStub(self.channel)

    async def chat(self, model: str, **fields: object) -> pb2.ChatResponse:
        request = pb2.ChatRequest(**{"model": model, "messages": MESSAGES, "max_tokens": 16, **fields})
        return await self.stub.Chat(request, timeout=DEADLINE_SECONDS, wait_for_ready=True)

    async def is_serving(self) -> bool:
        request = health_pb2.HealthCheckRequest(service="tunesmith.v1.InferenceService")
        health = health_pb2_grpc.HealthStub(self.channel)
        answer = await health.Check(request, timeout=DEADLINE_SECONDS, wait_for_ready=True)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def names(self) -> list[object]:
        return [event["event"] for event in self.events]

    async def read_log(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.events.append(json.loads(line))

    async def seen(self, event: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while event not in self.names():
            assert time.monotonic() < deadline, self.events
            await asyncio.sleep(0.01)


def environment(port: int, storage: str, cache: Path, **settings: str) -> dict[str, str]:
    own = {"LISTEN": f"127.0.0.1:{port}", "STORAGE_ADDRESS": storage, "CACHE_DIR": str(cache), "THREADS": "1", **settings}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    return {
        **inherited,
        "OMP_NUM_THREADS": "1",
        "GRPC_VERBOSITY": "NONE",
        **{f"TUNESMITH_INFERENCE_{name}": value for name, value in own.items()},
    }


async def spawned(env: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.inference", env=env, stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )


@asynccontextmanager
async def running(storage: str, cache: Path) -> AsyncIterator[Process]:
    port = pick_free(1)[0]
    process = await spawned(environment(port, storage, cache))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        service = Process(process, channel)
        log = asyncio.create_task(service.read_log())
        try:
            yield service
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await log


@pytest.fixture(scope="module")
def stored(base_directory: Path, adapter_directory: Path, other_adapter_directory: Path) -> DirectoryStorage:
    """A base model and a task with two artifacts, the newer on all linear modules."""
    storage = DirectoryStorage()
    storage.models[BASE] = base_directory
    storage.add_artifact(OTHER_ARTIFACT, other_adapter_directory, base_model=BASE, task=TASK)
    storage.add_artifact(ARTIFACT, adapter_directory, base_model=BASE, task=TASK)
    return storage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(stored: DirectoryStorage, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    """One process for all tests that leave it as it was."""
    async with serving_storage(stored) as address, running(address, tmp_path_factory.mktemp("cache")) as process:
        yield process


@pytest.fixture
async def own_service(stored: DirectoryStorage, tmp_path: Path) -> AsyncIterator[Process]:
    """A process for the tests that end it."""
    async with serving_storage(stored) as address, running(address, tmp_path / "cache") as process:
        yield process


def expected(base: Path, adapter: Path | None, count: int = 16) -> str:
    renderer = Renderer.from_directory(base)
    ids = greedy(base, adapter, renderer.prompt([{"role": "user", "content": QUESTION}]), count)
    ends = [index for index, token in enumerate(ids) if token in renderer.end_of_turn_ids]
    return renderer.decode(ids[: ends[0]] if ends else ids).rstrip("\N{REPLACEMENT CHARACTER}")


@shared_process
async def test_it_is_healthy_before_the_engine_is_there_and_an_early_question_waits(service: Process) -> None:
    assert await service.is_serving()
    response = await service.chat("tiny")
    assert response.usage.completion_tokens > 0
    await service.seen("engine.ready")
    names = service.names()
    assert names.index("server.ready") < names.index("engine.ready")


@shared_process
async def test_base_model_and_tuned_models_answer_as_plain_transformers_and_peft(
    service: Process, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path
) -> None:
    references = {
        "tiny": expected(base_directory, None),
        TASK: expected(base_directory, adapter_directory),
        OTHER_ARTIFACT: expected(base_directory, other_adapter_directory),
    }
    assert len(set(references.values())) == 3
    for model in ("tiny", TASK, "tiny", OTHER_ARTIFACT, TASK, "tiny"):
        assert (await service.chat(model)).message.content == references[model]
    loaded = await service.stub.ListLoadedModels(pb2.ListLoadedModelsRequest())
    assert [model.model for model in loaded.models] == [BASE, ARTIFACT, OTHER_ARTIFACT]
    assert [model.base_model for model in loaded.models] == [BASE] * 3
    assert loaded.models[0].memory_bytes == 2 * 27_136 * 4
    assert 0 < loaded.models[2].memory_bytes < loaded.models[1].memory_bytes


@shared_process
@pytest.mark.parametrize("model", ["tiny", TASK])
async def test_stream_and_chat_say_the_same(service: Process, model: str) -> None:
    for fields in ({}, {"temperature": 1.0, "top_p": 0.9, "seed": 7}):
        request = pb2.StreamChatRequest(model=model, messages=MESSAGES, max_tokens=40, **fields)
        *deltas, last = [response async for response in service.stub.StreamChat(request, wait_for_ready=True)]
        whole = await service.chat(model, max_tokens=40, **fields)
        assert "".join(response.delta for response in deltas) == whole.message.content
        assert last.finish_reason == whole.finish_reason
        assert last.usage.completion_tokens == whole.usage.completion_tokens


@shared_process
async def test_files_are_fetched_once(service: Process, stored: DirectoryStorage) -> None:
    await service.chat(TASK)
    fetched = list(stored.downloads)
    await service.stub.UnloadModel(pb2.UnloadModelRequest(model="tiny"))
    await service.chat(TASK)
    assert stored.downloads == fetched


@shared_process
async def test_an_artifact_past_its_time_stops_answering_though_it_is_loaded(service: Process, stored: DirectoryStorage) -> None:
    await service.chat(ARTIFACT)
    stored.expired.add(ARTIFACT)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.chat(ARTIFACT)
    stored.expired.clear()
    assert reason_of(refused.value) == "ARTIFACT_EXPIRED"
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_storage_away_is_said_and_it_works_again_once_storage_is_back(stored: DirectoryStorage, tmp_path: Path) -> None:
    address = f"127.0.0.1:{pick_free(1)[0]}"
    async with running(address, tmp_path / "cache") as service:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.chat("tiny")
        assert reason_of(refused.value) == "STORAGE_UNAVAILABLE"
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await service.is_serving()
        async with serving_storage(stored, address):
            assert (await eventually_answered(service)).usage.completion_tokens > 0


async def eventually_answered(service: Process) -> pb2.ChatResponse:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return await service.chat("tiny")
        except grpc.aio.AioRpcError as error:
            if reason_of(error) != "STORAGE_UNAVAILABLE" or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(own_service: Process, number: signal.Signals) -> None:
    await own_service.chat("tiny")
    own_service.process.send_signal(number)
    assert await asyncio.wait_for(own_service.process.wait(), DEADLINE_SECONDS) == 0
    assert own_service.names()[-2:] == ["server.stopping", "server.stopped"]


def engine_of(service: Process) -> psutil.Process:
    """The process that computes."""
    [child] = psutil.Process(service.process.pid).children()
    assert "services.inference.engine_process" in child.cmdline()
    return child


async def test_a_crash_of_native_code_fails_who_was_being_answered_and_nobody_after(
    own_service: Process, base_directory: Path, adapter_directory: Path
) -> None:
    await own_service.chat("tiny")
    request = pb2.StreamChatRequest(model=TASK, messages=MESSAGES, max_tokens=200)
    stream = aiter(own_service.stub.StreamChat(request, timeout=DEADLINE_SECONDS))
    await anext(stream)
    engine_of(own_service).send_signal(signal.SIGSEGV)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in stream:
            pass
    assert (refused.value.code(), reason_of(refused.value)) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_CRASHED")
    assert "SIGSEGV" in str(refused.value.details())
    assert (await own_service.chat(TASK)).message.content == expected(base_directory, adapter_directory)
    assert (await own_service.chat("tiny")).message.content == expected(base_directory, None)
    assert own_service.process.returncode is None


async def test_a_killed_service_takes_its_engine_along(own_service: Process) -> None:
    await own_service.chat("tiny")
    engine = engine_of(own_service)
    own_service.process.kill()
    await own_service.process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, [engine], 30)
    assert alive == []


async def test_a_signal_while_the_engine_starts_ends_it_too(own_service: Process) -> None:
    assert await own_service.is_serving()
    own_service.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(own_service.process.wait(), DEADLINE_SECONDS) == 0
    assert "server.stopped" in own_service.names()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"TREADS": "2"}, "did you mean TUNESMITH_INFERENCE_THREADS"),
        ({"MAX_LOADED_BYTES": "0"}, "TUNESMITH_INFERENCE_MAX_LOADED_BYTES"),
        ({"THREADS": "-1"}, "TUNESMITH_INFERENCE_THREADS"),
        ({"LISTEN": "0.0.0.0:1"}, "reachable from outside"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_exit_code_2(settings: dict[str, str], complaint: str, tmp_path: Path) -> None:
    process = await spawned(environment(1, "127.0.0.1:1", tmp_path, **settings))
    _, stderr = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    assert process.returncode == 2
    assert stderr.decode().startswith("error: ")
    assert complaint in stderr.decode()
    assert len(stderr.decode().splitlines()) == 1


async def test_an_engine_that_cannot_start_is_one_error_with_a_hint_and_exit_code_1(tmp_path: Path) -> None:
    settings = environment(pick_free(1)[0], "127.0.0.1:1", tmp_path, ENGINE_PYTHON=str(tmp_path / "python"))
    process = await spawned(settings)
    _, stderr = await asyncio.wait_for(process.communicate(), DEADLINE_SECONDS)
    error, hint = stderr.decode().splitlines()[-2:]
    assert process.returncode == 1
    assert error.startswith("error: the process that computes answers cannot start: ")
    assert str(tmp_path / "python") in error
    assert "TUNESMITH_INFERENCE_ENGINE_PYTHON" in hint
    assert "Traceback" not in stderr.decode()


async def test_the_service_starts_without_the_tensor_libraries() -> None:
    code = "import sys, services.inference.__main__; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    stdout, _ = await process.communicate()
    assert stdout.decode().strip() == "[]"
