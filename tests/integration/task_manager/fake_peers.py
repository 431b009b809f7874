"""A trainer and a storage service over real gRPC, scripted by the test."""

import asyncio
import contextlib
import dataclasses
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from services.common.errors import NotFound, ServiceError, Unavailable
from services.common.interceptors import EdgeInterceptor
from tunesmith.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    base_model_pb2,
    dataset_pb2,
    dataset_service_pb2,
    dataset_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    registered_model_pb2,
    task_error_pb2,
    task_event_pb2,
    task_pb2,
    trainer_service_pb2,
    trainer_service_pb2_grpc,
)

DATASET = "datasets/11111111-1111-4111-8111-111111111111"
OTHER_DATASET = "datasets/22222222-2222-4222-8222-222222222222"
BASE_MODEL = "baseModels/tiny"
ARTIFACT = "artifacts/33333333-3333-4333-8333-333333333333"
TERMINAL = {task_pb2.Task.SUCCEEDED, task_pb2.Task.FAILED, task_pb2.Task.CANCELLED}


@dataclasses.dataclass
class FakeRun:
    """A run whose journal the test (or a script) writes."""

    run: trainer_service_pb2.Run
    events: list[task_event_pb2.TaskEvent] = dataclasses.field(default_factory=list)
    changed: asyncio.Condition = dataclasses.field(default_factory=asyncio.Condition)

    async def emit(self, **body: Any) -> None:
        """Appends one event."""
        event = task_event_pb2.TaskEvent(sequence=len(self.events) + 1, attempt=self.run.attempt, **body)
        event.time.GetCurrentTime()
        async with self.changed:
            self.events.append(event)
            self.run.head_sequence = event.sequence
            self.changed.notify_all()

    async def has_more_than(self, count: int) -> None:
        """Until there are more events, or the run is over."""
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.events) > count or self.run.state in TERMINAL)

    async def start_training(self, total_steps: int = 10) -> None:
        """The training loop begins."""
        self.run.state = task_pb2.Task.RUNNING
        await self.emit(training_started=task_event_pb2.TrainingStarted(total_steps=total_steps, num_processes=1))

    async def step(self, number: int, loss: float = 1.0) -> None:
        """Metrics of one step."""
        values = {"loss": loss, "epoch": number / 10, "tokens": 100.0 * number, "tokens_per_second": 50.0}
        await self.emit(step_metrics=task_event_pb2.StepMetrics(step=number, values=values))

    async def line(self, text: str, *, rank: int = 0, severity: int = task_event_pb2.LogEntry.INFO) -> None:
        """A log line."""
        entry = task_event_pb2.LogEntry(severity=severity, rank=rank, source="stdout", text=text)
        await self.emit(log_entry=entry)

    async def end(self, state: int, reason: str = "") -> None:
        """The run is over."""
        async with self.changed:
            self.run.state = state
            if state == task_pb2.Task.SUCCEEDED:
                self.run.artifact = ARTIFACT
            if state == task_pb2.Task.FAILED:
                error = task_error_pb2.TaskError(reason=reason or "TRAINING_FAILED", message="it broke", hint="mend it")
                error.error_class = task_error_pb2.ERROR_CLASS_PLATFORM
                self.run.error.CopyFrom(error)
            self.changed.notify_all()

    async def succeed(self, steps: int = 5) -> None:
        """A whole run."""
        await self.line("loading")
        await self.start_training(steps)
        for number in range(1, steps + 1):
            await self.step(number, loss=2.0 / number)
        await self.end(task_pb2.Task.SUCCEEDED)


class FakeTrainer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """Keeps its runs over restarts of its server, unless the test forgets them."""

    def __init__(self, total_processes: int = 4) -> None:
        self.total_processes = total_processes
        self.flops_per_second = 0.0
        self.total_memory_bytes = 0
        self.labels: dict[str, str] = {}
        self.version = ""
        self.fenced_after_seconds = 0.0
        self.runs: dict[str, FakeRun] = {}
        self.script: Callable[[FakeRun], Any] | None = None
        self.refusal: ServiceError | None = None
        self.answers_starts = asyncio.Event()
        """Cleared by a test that wants something to happen before a start is answered."""
        self.answers_starts.set()
        self.obeys_cancel = True
        self.cancelled: list[str] = []
        self.paused: list[str] = []
        self.saves: list[tuple[str, str]] = []
        self.break_stream_after: int | None = None
        self.address = ""
        self._server: grpc.aio.Server | None = None
        self._scripts: set[asyncio.Task[None]] = set()

    async def StartRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        if request.run.name in self.runs:
            return self.runs[request.run.name].run
        await self.answers_starts.wait()
        if self.refusal:
            raise self.refusal
        run = FakeRun(trainer_service_pb2.Run())
        run.run.CopyFrom(request.run)
        run.run.state = task_pb2.Task.STARTING
        self.runs[request.run.name] = run
        if self.script:
            task = asyncio.create_task(self.script(run))
            self._scripts.add(task)
            task.add_done_callback(self._scripts.discard)
        return run.run

    async def CancelRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        run = self._run(request.name)
        self.cancelled.append(request.name)
        if self.obeys_cancel and run.run.state not in TERMINAL:
            await run.end(task_pb2.Task.CANCELLED)
        return run.run

    async def PauseRun(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        run = self._run(request.name)
        self.paused.append(request.name)
        if self.obeys_cancel and run.run.state not in TERMINAL:
            await run.end(task_pb2.Task.FAILED, "RUN_PAUSED")
        return run.run

    async def SaveRunCheckpoint(self, request: Any, context: Any) -> trainer_service_pb2.Run:
        if self.refusal:
            raise self.refusal
        self.saves.append((request.name, request.label))
        return self._run(request.name).run

    async def ListRuns(self, request: Any, context: Any) -> trainer_service_pb2.ListRunsResponse:
        return trainer_service_pb2.ListRunsResponse(runs=[run.run for run in self.runs.values()])

    async def GetCapacity(self, request: Any, context: Any) -> trainer_service_pb2.Capacity:
        busy = sum(run.run.hyperparameters.num_processes for run in self.runs.values() if run.run.state not in TERMINAL)
        return trainer_service_pb2.Capacity(
            total_processes=self.total_processes,
            free_processes=max(0, self.total_processes - busy),
            device="cpu",
            flops_per_second=self.flops_per_second,
            total_memory_bytes=self.total_memory_bytes,
            free_memory_bytes=self.total_memory_bytes,
            labels=self.labels,
            version=self.version,
            fenced_after_seconds=self.fenced_after_seconds,
        )

    async def StreamRunEvents(self, request: Any, context: Any) -> AsyncIterator[trainer_service_pb2.StreamRunEventsResponse]:
        run, cursor, sent = self._run(request.name), request.after_sequence, 0
        if cursor > len(run.events):
            raise ServiceError("CURSOR_AHEAD", "the run has fewer events")
        header = task_event_pb2.StreamHeader(first_available_sequence=1, head_sequence=len(run.events), state=run.run.state)
        yield trainer_service_pb2.StreamRunEventsResponse(header=header)
        while True:
            await run.has_more_than(cursor)
            for event in run.events[cursor:]:
                yield trainer_service_pb2.StreamRunEventsResponse(events=[event])
                cursor, sent = event.sequence, sent + 1
                if self.break_stream_after and sent >= self.break_stream_after:
                    raise ServiceError("SERVER_STOPPING", "broken by the test")
            if run.run.state in TERMINAL and cursor == len(run.events):
                error = run.run.error if run.run.HasField("error") else None
                end = task_event_pb2.StreamEnd(head_sequence=cursor, state=run.run.state, error=error, artifact=run.run.artifact)
                yield trainer_service_pb2.StreamRunEventsResponse(end=end)
                return

    async def start(self) -> None:
        """Serves; after a stop on the same port."""
        self._server = grpc.aio.server(interceptors=[EdgeInterceptor()], options=[("grpc.so_reuseport", 0)])
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        """Goes away at once; the runs go on."""
        if self._server:
            await self._server.stop(0)
            self._server = None

    async def close(self) -> None:
        """The end of the test."""
        await self.stop()
        for task in self._scripts:
            task.cancel()
        await asyncio.gather(*self._scripts, return_exceptions=True)

    def _run(self, name: str) -> FakeRun:
        if name not in self.runs:
            raise NotFound("RUN_NOT_FOUND", name)
        return self.runs[name]


def token_statistics(**changes: Any) -> dataset_pb2.TokenStatistics:
    """Of 100 rows of 50 tokens, 10 of which carry loss."""
    counts = {"example_count": 100, "token_count": 5000, "trainable_token_count": 1000}
    lengths = dataset_pb2.LengthDistribution(min=50, max=50, histogram=[dataset_pb2.LengthBucket(up_to=64, count=100)])
    return dataset_pb2.TokenStatistics(**{"lengths": lengths} | counts | changes)


class FakeStorage(
    dataset_service_pb2_grpc.DatasetServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    artifact_service_pb2_grpc.ArtifactServiceServicer,
):
    """Two datasets of 100 examples, one base model. `counting` is a gate: a closed one holds up the counting of tokens."""

    def __init__(self) -> None:
        self.calls = 0
        self.artifacts: list[artifact_pb2.Artifact] = []
        self.held: list[str] = []
        self.notices: list[artifact_service_pb2.ArtifactNotice] = []
        """Numbered from 1."""
        self.formats = {DATASET: dataset_pb2.Dataset.CHAT, OTHER_DATASET: dataset_pb2.Dataset.CHAT}
        self.tokens: dict[str, dataset_pb2.TokenStatistics] = {}
        self.shared_rows = 0
        self.asked: list[dataset_service_pb2.AnalyzeDatasetRequest] = []
        self.base_model = base_model_pb2.BaseModel(name=BASE_MODEL, context_length=512, parameter_count=1_000_000)
        self.model_config = b"{}"
        self.versions: dict[str, registered_model_pb2.ModelVersion] = {}
        """By the name it is asked for."""
        self.version_files: dict[str, bytes] = {}
        self.can_count = True
        self.counting = asyncio.Event()
        self.counting.set()

    async def ListArtifactNotices(self, request: Any, context: Any) -> artifact_service_pb2.ListArtifactNoticesResponse:
        found = self.notices[request.after_sequence :]
        return artifact_service_pb2.ListArtifactNoticesResponse(notices=found, last_sequence=len(self.notices))

    async def GetDataset(self, request: Any, context: Any) -> dataset_pb2.Dataset:
        self.calls += 1
        if request.name not in (DATASET, OTHER_DATASET):
            raise NotFound("DATASET_NOT_FOUND", request.name)
        statistics = dataset_pb2.DatasetStatistics(example_count=100)
        return dataset_pb2.Dataset(name=request.name, statistics=statistics, format=self.formats[request.name])

    async def AnalyzeDataset(self, request: Any, context: Any) -> dataset_service_pb2.DatasetAnalysis:
        self.asked.append(request)
        if not self.can_count:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "method not found")
        await self.counting.wait()
        answer = dataset_service_pb2.DatasetAnalysis(tokens=self.tokens.get(request.name, token_statistics()))
        if request.against:
            answer.overlap.same_row_count = self.shared_rows
        return answer

    async def GetBaseModel(self, request: Any, context: Any) -> base_model_pb2.BaseModel:
        self.calls += 1
        if request.name != BASE_MODEL:
            raise NotFound("BASE_MODEL_NOT_FOUND", request.name)
        return self.base_model

    async def GetArtifact(self, request: Any, context: Any) -> artifact_pb2.Artifact:
        for artifact in (*self.artifacts, _stored()):
            if artifact.name == request.name:
                return artifact
        raise NotFound("ARTIFACT_NOT_FOUND", request.name)

    async def HoldArtifact(self, request: Any, context: Any) -> artifact_pb2.Artifact:
        self.held.append(request.name)
        return await self.GetArtifact(request, context)

    async def ListArtifacts(self, request: Any, context: Any) -> artifact_service_pb2.ListArtifactsResponse:
        found = [each for each in self.artifacts if (each.manifest.task, each.kind) == (request.task, request.kind)]
        return artifact_service_pb2.ListArtifactsResponse(artifacts=found)

    async def GetModelVersion(self, request: Any, context: Any) -> registered_model_pb2.ModelVersion:
        for asked, version in self.versions.items():
            if request.name in (asked, version.name):
                return version
        raise NotFound("MODEL_VERSION_NOT_FOUND", request.name)

    async def HoldModelVersion(self, request: Any, context: Any) -> registered_model_pb2.ModelVersion:
        self.held.append(request.name)
        return await self.GetModelVersion(request, context)

    async def DownloadModel(self, request: Any, context: Any) -> AsyncIterator[model_service_pb2.DownloadModelResponse]:
        if request.name.startswith("models/"):
            if request.path not in self.version_files:
                raise Unavailable("STORAGE_UNAVAILABLE", "the S3 server does not answer")
            yield model_service_pb2.DownloadModelResponse(chunk=self.version_files[request.path])
            return
        assert request.path == "config.json"
        yield model_service_pb2.DownloadModelResponse(chunk=self.model_config)


def _stored() -> artifact_pb2.Artifact:
    """What every run that ends well leaves."""
    manifest = artifact_pb2.ArtifactManifest(dataset_sha256="aa", versions={"torch": "2.0"}, base_model_revision="r")
    return artifact_pb2.Artifact(name=ARTIFACT, manifest=manifest)


@contextlib.asynccontextmanager
async def serving_storage(storage: FakeStorage) -> AsyncIterator[str]:
    """The address."""
    server = grpc.aio.server(interceptors=[EdgeInterceptor()])
    dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(storage, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(storage, server)
    artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(storage, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def new_id() -> str:
    """A fresh request id."""
    return str(uuid.uuid4())
