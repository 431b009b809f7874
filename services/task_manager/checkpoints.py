"""The checkpoints of a task: what storage has, and one on demand; used by the servicer."""

import uuid

from services.common.errors import ServiceError
from services.task_manager.domain.kept_checkpoints import own
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.domain.task import State
from services.task_manager.repository import TaskRepository
from services.task_manager.storage_port import Storage
from services.task_manager.times import to_timestamp
from services.task_manager.trainer_port import TrainerAt
from tunesmith.v1 import task_manager_service_pb2


class Checkpoints:
    """`trainer_at` gives the trainer at an address."""

    def __init__(self, repository: TaskRepository, storage: Storage, trainer_at: TrainerAt) -> None:
        self._repository = repository
        self._storage = storage
        self._trainer_at = trainer_at

    async def list(self, task_id: uuid.UUID) -> task_manager_service_pb2.ListCheckpointsResponse:
        """Newest step first; raises NotFound and Unavailable."""
        task = await self._repository.get(task_id)
        found = own(await self._storage.checkpoints(task.name), task.first_attempt)
        measured = [each for each in reversed(found) if each.eval_loss is not None]
        best = min(measured, key=lambda each: each.eval_loss or 0.0, default=None)
        messages = [_to_proto(each, best=each is best) for each in found]
        return task_manager_service_pb2.ListCheckpointsResponse(checkpoints=messages)

    async def save(self, task_id: uuid.UUID, label: str) -> task_manager_service_pb2.SaveCheckpointResponse:
        """Asks the trainer for one; raises NotFound, InvalidArgument, TASK_NOT_RUNNING and Unavailable."""
        task = await self._repository.get(task_id)
        if task.state is not State.RUNNING:
            raise ServiceError(
                "TASK_NOT_RUNNING", f"{task.name} is {task.state.value}", hint="Only a running task has news to save."
            )
        runner, run_name = await self._repository.run_of(task_id)
        await self._trainer_at(runner).save_checkpoint(run_name, label)
        return task_manager_service_pb2.SaveCheckpointResponse(after_sequence=task.head_sequence)


def _to_proto(facts: ArtifactFacts, *, best: bool) -> task_manager_service_pb2.Checkpoint:
    return task_manager_service_pb2.Checkpoint(
        name=f"{facts.task}@step-{facts.step}",
        artifact=facts.name,
        step=facts.step,
        attempt=facts.attempt,
        labels=facts.labels,
        size_bytes=facts.size_bytes,
        eval_loss=facts.eval_loss,
        best=best,
        metrics=dict(facts.metrics),
        create_time=to_timestamp(facts.create_time),
        expire_time=to_timestamp(facts.expire_time),
    )
