"""From the wish to try a task again to a queued one: merge the numbers, check, record; used by the servicer."""

import dataclasses
import hashlib

from services.common.errors import InvalidArgument, Violation
from services.common.names import resource_uuid
from services.task_manager.domain import retry, validation
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.task import Retry, Task
from services.task_manager.kinds.table import Kinds
from services.task_manager.kinds.work import Resolved
from services.task_manager.merging import merged
from services.task_manager.origins import Origins
from services.task_manager.repository import TaskRepository
from services.task_manager.retry_repository import RetryRepository
from services.task_manager.spec_conversion import draft_from_proto, hyperparameters_from_proto
from services.task_manager.storage_port import Storage
from tunesmith.v1 import task_manager_service_pb2, task_pb2, task_spec_pb2


class Retrying:
    """`patience` is how many seconds to wait for tokens to be counted."""

    def __init__(
        self,
        *,
        repository: TaskRepository,
        retries: RetryRepository,
        kinds: Kinds,
        origins: Origins,
        storage: Storage,
        patience: float,
    ) -> None:
        self._repository = repository
        self._retries = retries
        self._kinds = kinds
        self._origins = origins
        self._storage = storage
        self._patience = patience

    async def retry(self, request: task_manager_service_pb2.RetryTaskRequest) -> Task:
        """Queues the task; a repeat changes nothing.

        Raises InvalidArgument (numbers that cannot change), NotFound, Unavailable, TASK_NOT_ENDED_BADLY, REQUEST_ID_REUSED.
        """
        task_id = resource_uuid(request.name, "tasks")
        request_id = validation.check_request_id(request.request_id)
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        task = await self._repository.get(task_id)
        if request_id and await self._retries.is_known(task_id, request_id, digest):
            return await self._repository.get(task_id)
        retry.check_state(task.state)
        plain = Retry(task_id, request_id, digest, from_start=request.from_start)
        changes = request.hyperparameters
        if not (changes.ByteSize() or task.origin_artifact):
            return await self._retries.retry(plain)
        if changes.ByteSize() and task.kind is not Kind.FINE_TUNING:
            raise InvalidArgument(Violation("hyperparameters", f"{task.name} is of kind {task.kind.value}, which has none"))
        step = 0 if request.from_start else await self._step(task)
        wanted = await self._changed(task, plain, changes, step) if changes.ByteSize() else plain
        if task.origin_artifact and not step:
            await self._origins.keep(task.origin_artifact)
        return await self._retries.retry(wanted)

    async def _changed(self, task: Task, plain: Retry, changes: task_spec_pb2.Hyperparameters, step: int) -> Retry:
        spec = task_spec_pb2.TaskSpec.FromString(task.spec)
        before = task_spec_pb2.Hyperparameters.FromString(task.effective_hyperparameters)
        overrides = merged(task_spec_pb2.Hyperparameters.FromString(task.overrides), changes, before)
        spec.fine_tuning.hyperparameters.CopyFrom(merged(spec.fine_tuning.hyperparameters, overrides, before))
        earlier = hyperparameters_from_proto(before)
        found = await self._resolved(task, spec, earlier if step else None)
        effective = found.effective_hyperparameters
        if step and (wrong := list(retry.violations(earlier, hyperparameters_from_proto(effective), step))):
            raise InvalidArgument(*wrong)
        return dataclasses.replace(
            plain,
            changes=changes.SerializeToString(),
            overrides=overrides.SerializeToString(),
            effective_hyperparameters=effective.SerializeToString(),
            processes=found.processes,
            memory_bytes=found.memory_bytes,
            expected_duration=found.expected_duration,
        )

    async def _resolved(self, task: Task, spec: task_spec_pb2.TaskSpec, continued: Hyperparameters | None) -> Resolved:
        draft = draft_from_proto(task_pb2.Task(display_name=task.display_name, spec=spec), self._kinds.read(spec))
        work = validation.check(draft, named=True)
        return await work.resolve(patience=self._patience, continued=continued)

    async def _step(self, task: Task) -> int:
        """Of the newest checkpoint that would be used; 0 = none."""
        found = await self._storage.checkpoints(task.name)
        return max((each.step for each in found if each.attempt >= task.first_attempt), default=0)
