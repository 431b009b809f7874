"""Trainers over gRPC: the adapter of `trainer_port`; made in `__main__`."""

from collections.abc import AsyncGenerator, Sequence

import grpc

from services.common.channels import call_metadata, connect, translated
from services.common.failpoints import around
from services.task_manager.conversion import state_from_proto
from services.task_manager.domain.claim import Assignment
from services.task_manager.trainer_port import Capacity, LiveRun, RunEnd, RunEvents, RunMessage
from tunesmith.v1 import task_event_pb2, task_spec_pb2, trainer_service_pb2, trainer_service_pb2_grpc

_REASON = "TRAINER_UNAVAILABLE"


class GrpcTrainer:
    """One trainer. `deadline` caps unary calls, in seconds."""

    def __init__(self, channel: grpc.aio.Channel, address: str, *, api_key: str = "", deadline: float = 5.0) -> None:
        self._stub = trainer_service_pb2_grpc.TrainerServiceStub(channel)
        self._peer = f"the trainer {address}"
        self._api_key = api_key
        self._deadline = deadline

    async def capacity(self) -> Capacity:
        """See Trainer."""
        with translated(_REASON, self._peer):
            answer = await self._stub.GetCapacity(
                trainer_service_pb2.GetCapacityRequest(), timeout=self._deadline, metadata=call_metadata(self._api_key)
            )
        return Capacity(
            answer.total_processes, answer.free_processes, answer.flops_per_second, answer.total_memory_bytes, answer.version
        )

    async def start_run(self, assignment: Assignment) -> None:
        """See Trainer."""
        request = trainer_service_pb2.StartRunRequest(run=_run(assignment))
        with translated(_REASON, self._peer), around("start_run"):
            await self._stub.StartRun(request, timeout=self._deadline, metadata=call_metadata(self._api_key))

    async def cancel_run(self, name: str) -> None:
        """See Trainer."""
        request = trainer_service_pb2.CancelRunRequest(name=name)
        with translated(_REASON, self._peer), around("cancel_run"):
            await self._stub.CancelRun(request, timeout=self._deadline, metadata=call_metadata(self._api_key))

    async def pause_run(self, name: str) -> None:
        """See Trainer."""
        request = trainer_service_pb2.PauseRunRequest(name=name)
        with translated(_REASON, self._peer):
            await self._stub.PauseRun(request, timeout=self._deadline, metadata=call_metadata(self._api_key))

    async def save_checkpoint(self, name: str, label: str) -> None:
        """See Trainer."""
        request = trainer_service_pb2.SaveRunCheckpointRequest(name=name, label=label)
        with translated(_REASON, self._peer):
            await self._stub.SaveRunCheckpoint(request, timeout=self._deadline, metadata=call_metadata(self._api_key))

    async def live_runs(self) -> Sequence[LiveRun]:
        """See Trainer."""
        request = trainer_service_pb2.ListRunsRequest()
        with translated(_REASON, self._peer):
            answer = await self._stub.ListRuns(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        return [LiveRun(run.name, run.task) for run in answer.runs if not _is_over(run)]

    async def follow_run(self, name: str, after: int) -> AsyncGenerator[RunMessage, None]:
        """See Trainer."""
        request = trainer_service_pb2.StreamRunEventsRequest(name=name, after_sequence=after)
        with translated(_REASON, self._peer):
            async for response in self._stub.StreamRunEvents(request, metadata=call_metadata(self._api_key)):
                yield _end(response.end) if response.HasField("end") else RunEvents(response.events, response.ByteSize())


class GrpcTrainers:
    """Trainers by address, also those that only an older claim names; channels are closed with the block."""

    def __init__(self, *, api_key: str = "") -> None:
        self._api_key = api_key
        self._trainers: dict[str, GrpcTrainer] = {}
        self._channels: list[grpc.aio.Channel] = []

    def at(self, address: str) -> GrpcTrainer:
        """The trainer at `address`."""
        if address not in self._trainers:
            channel = connect(address, api_key=self._api_key)
            self._channels.append(channel)
            self._trainers[address] = GrpcTrainer(channel, address, api_key=self._api_key)
        return self._trainers[address]

    async def __aenter__(self) -> "GrpcTrainers":
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()


def _run(assignment: Assignment) -> trainer_service_pb2.Run:
    return trainer_service_pb2.Run(
        name=assignment.run_name,
        task=f"tasks/{assignment.claim.task_id}",
        attempt=assignment.attempt,
        epoch=assignment.claim.epoch,
        spec=task_spec_pb2.TaskSpec.FromString(assignment.spec),
        hyperparameters=task_spec_pb2.Hyperparameters.FromString(assignment.effective_hyperparameters),
        first_attempt=assignment.first_attempt,
    )


def _end(end: task_event_pb2.StreamEnd) -> RunEnd:
    error = end.error.SerializeToString() if end.HasField("error") else None
    return RunEnd(end.head_sequence, state_from_proto(end.state), error, end.artifact, end.early_end)


def _is_over(run: trainer_service_pb2.Run) -> bool:
    state = state_from_proto(run.state)
    return state is not None and state.is_terminal
