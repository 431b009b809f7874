"""Trainers over gRPC: the adapter of `trainer_port`; made in `__main__`."""

import datetime
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from services.common.addresses import is_loopback
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
        answer = await self._call(self._stub.GetCapacity, trainer_service_pb2.GetCapacityRequest())
        return Capacity(
            answer.total_processes,
            answer.free_processes,
            answer.flops_per_second,
            answer.total_memory_bytes,
            answer.version,
            dict(answer.labels),
            answer.free_memory_bytes,
            answer.device,
            datetime.timedelta(seconds=answer.fenced_after_seconds) or None,
        )

    async def start_run(self, assignment: Assignment) -> None:
        """See Trainer."""
        with around("start_run"):
            await self._call(self._stub.StartRun, trainer_service_pb2.StartRunRequest(run=_run(assignment)))

    async def cancel_run(self, name: str) -> None:
        """See Trainer."""
        with around("cancel_run"):
            await self._call(self._stub.CancelRun, trainer_service_pb2.CancelRunRequest(name=name))

    async def pause_run(self, name: str) -> None:
        """See Trainer."""
        await self._call(self._stub.PauseRun, trainer_service_pb2.PauseRunRequest(name=name))

    async def save_checkpoint(self, name: str, label: str) -> None:
        """See Trainer."""
        await self._call(self._stub.SaveRunCheckpoint, trainer_service_pb2.SaveRunCheckpointRequest(name=name, label=label))

    async def live_runs(self) -> Sequence[LiveRun]:
        """See Trainer."""
        answer = await self._call(self._stub.ListRuns, trainer_service_pb2.ListRunsRequest())
        return [LiveRun(run.name, run.task) for run in answer.runs if not _is_over(run)]

    async def follow_run(self, name: str, after: int) -> AsyncGenerator[RunMessage, None]:
        """See Trainer."""
        request = trainer_service_pb2.StreamRunEventsRequest(name=name, after_sequence=after)
        with translated(_REASON, self._peer):
            async for response in self._stub.StreamRunEvents(request, metadata=call_metadata(self._api_key)):
                yield _end(response.end) if response.HasField("end") else RunEvents(response.events, response.ByteSize())

    async def _call(self, method: Any, request: Message) -> Any:
        with translated(_REASON, self._peer):
            return await method(request, timeout=self._deadline, metadata=call_metadata(self._api_key))


class GrpcTrainers:
    """Trainers by address, also those that only an older claim names; channels are closed with the block.

    `tls_ca` is for those on other machines.
    """

    def __init__(self, *, api_key: str = "", tls_ca: bytes | None = None) -> None:
        self._api_key = api_key
        self._tls_ca = tls_ca
        self._trainers: dict[str, GrpcTrainer] = {}
        self._channels: list[grpc.aio.Channel] = []

    def at(self, address: str) -> GrpcTrainer:
        """The trainer at `address`; raises ConfigError when the key would travel unencrypted."""
        if address not in self._trainers:
            channel = connect(address, api_key=self._api_key, tls_ca=None if is_loopback(address) else self._tls_ca)
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
