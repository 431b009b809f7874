"""TrainerService at the edge: protos in, protos out; registered by `__main__`."""
# ruff: noqa: N802 - gRPC names the methods

import asyncio
import importlib.metadata
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from services.common import memory
from services.trainer import conversion, event_stream
from services.trainer.contact import Contact
from services.trainer.history import End
from services.trainer.run import RunName
from services.trainer.run_directory import RunDirectory
from services.trainer.runs import Runs
from services.trainer.speed import Speed
from services.trainer.warm_pool import WarmPool
from tunesmith.v1 import task_event_pb2, trainer_service_pb2, trainer_service_pb2_grpc

HEARTBEAT_SECONDS = 15.0
VERSION = importlib.metadata.version("tunesmith")


class TrainerServicer(trainer_service_pb2_grpc.TrainerServiceServicer):
    """`stopping` ends the streams; `clock` in seconds since 1970."""

    def __init__(
        self,
        runs: Runs,
        *,
        device: str,
        labels: Mapping[str, str],
        contact: Contact,
        fenced_after: float,
        speed: Speed,
        warm: WarmPool,
        stopping: asyncio.Event,
        clock: Callable[[], float],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._runs = runs
        self._device = device
        self._labels = labels
        self._contact = contact
        self._fenced_after = fenced_after
        self._speed = speed
        self._warm = warm
        self._stopping = stopping
        self._clock = clock
        self._heartbeat_seconds = heartbeat_seconds

    async def StartRun(self, request: trainer_service_pb2.StartRunRequest, context: Any) -> trainer_service_pb2.Run:
        """Starts a run, or returns the one of that name."""
        self._contact.note()
        return _run(self._runs.start(conversion.request_from_proto(request.run, self._clock())))

    async def GetRun(self, request: trainer_service_pb2.GetRunRequest, context: Any) -> trainer_service_pb2.Run:
        """One run."""
        self._contact.note()
        return _run(self._runs.get(RunName.parse(request.name)))

    async def ListRuns(self, request: trainer_service_pb2.ListRunsRequest, context: Any) -> trainer_service_pb2.ListRunsResponse:
        """Every run, newest first."""
        self._contact.note()
        return trainer_service_pb2.ListRunsResponse(runs=[_run(run) for run in self._runs.newest_first()])

    async def CancelRun(self, request: trainer_service_pb2.CancelRunRequest, context: Any) -> trainer_service_pb2.Run:
        """Asks for the end of a run."""
        self._contact.note()
        return _run(self._runs.cancel(RunName.parse(request.name)))

    async def PauseRun(self, request: trainer_service_pb2.PauseRunRequest, context: Any) -> trainer_service_pb2.Run:
        """Brings a run to rest."""
        self._contact.note()
        return _run(self._runs.pause(RunName.parse(request.name)))

    async def SaveRunCheckpoint(
        self, request: trainer_service_pb2.SaveRunCheckpointRequest, context: Any
    ) -> trainer_service_pb2.Run:
        """Asks a run for a checkpoint."""
        self._contact.note()
        name = RunName.parse(request.name)
        conversion.check_label(request.label)
        return _run(self._runs.save_checkpoint(name, request.label))

    async def GetCapacity(self, request: trainer_service_pb2.GetCapacityRequest, context: Any) -> trainer_service_pb2.Capacity:
        """What this trainer can take now."""
        self._contact.note()
        main, warm = memory.read(), self._warm.memory_bytes
        return trainer_service_pb2.Capacity(
            total_processes=self._runs.capacity,
            free_processes=self._runs.free(),
            active_run_count=len(self._runs.active()),
            device=self._device,
            flops_per_second=self._speed.flops_per_second,
            total_memory_bytes=main.total,
            warm_processes=self._warm.ready_count,
            warm_memory_bytes=warm,
            version=VERSION,
            labels=self._labels,
            fenced_after_seconds=self._fenced_after,
            free_memory_bytes=min(main.total, main.available + warm) if main.available else 0,
        )

    async def StreamRunEvents(
        self, request: trainer_service_pb2.StreamRunEventsRequest, context: Any
    ) -> AsyncIterator[trainer_service_pb2.StreamRunEventsResponse]:
        """Header, events after the cursor as they come, heartbeats, end."""
        self._contact.note()
        run = self._runs.get(RunName.parse(request.name))
        event_stream.check_cursor(run, request.after_sequence)
        yield trainer_service_pb2.StreamRunEventsResponse(header=_header(run))
        parts = event_stream.follow(
            run, request.after_sequence, stopping=self._stopping, idle_seconds=self._heartbeat_seconds, clock=time.monotonic
        )
        async for part in parts:
            yield self._response(run, part)

    def _response(self, run: RunDirectory, part: event_stream.Part) -> trainer_service_pb2.StreamRunEventsResponse:
        if isinstance(part, End):
            return trainer_service_pb2.StreamRunEventsResponse(end=_end(run, part))
        if isinstance(part, int):
            heartbeat = task_event_pb2.Heartbeat(head_sequence=part)
            heartbeat.time.FromMicroseconds(round(self._clock() * 1e6))
            return trainer_service_pb2.StreamRunEventsResponse(heartbeat=heartbeat)
        attempt = run.request.name.attempt
        return trainer_service_pb2.StreamRunEventsResponse(events=[conversion.event_to_proto(record, attempt) for record in part])


def _run(run: RunDirectory) -> trainer_service_pb2.Run:
    return conversion.run_to_proto(run.request, run.history(), run.wish())


def _header(run: RunDirectory) -> task_event_pb2.StreamHeader:
    return task_event_pb2.StreamHeader(
        first_available_sequence=1,
        head_sequence=run.history().head,
        epoch=run.request.epoch,
        state=conversion.state_to_proto(run.state()),
    )


def _end(run: RunDirectory, end: End) -> task_event_pb2.StreamEnd:
    message = task_event_pb2.StreamEnd(
        head_sequence=run.history().head,
        state=conversion.state_to_proto(end.state),
        artifact=end.artifact,
        early_end=end.early_end,
    )
    if end.failure is not None:
        message.error.CopyFrom(conversion.error_to_proto(end.failure))
    return message
