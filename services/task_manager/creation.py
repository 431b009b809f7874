"""From a request to a recorded task, or to its plan: check, ask storage, resolve, record; used by the servicer."""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.common.errors import ServiceError
from services.task_manager.domain import hyperparameters, methods, validation
from services.task_manager.domain.plan import Plan, make_plan
from services.task_manager.domain.task import NewTask, Task
from services.task_manager.domain.validation import Draft, FineTuning
from services.task_manager.repository import TaskRepository
from services.task_manager.spec_conversion import draft_from_proto, hyperparameters_to_proto, spec_to_store
from services.task_manager.storage_port import Storage
from tunesmith.v1 import task_manager_service_pb2, task_pb2, task_spec_pb2

_PATH = "task.spec.fine_tuning"

Found = TypeVar("Found")


class TaskCreation:
    """Storage is asked outside of any transaction. `new_id` makes the ids of tasks."""

    def __init__(self, repository: TaskRepository, storage: Storage, new_id: Callable[[], uuid.UUID] = uuid.uuid4) -> None:
        self._repository = repository
        self._storage = storage
        self._new_id = new_id

    async def create(self, request: task_manager_service_pb2.CreateTaskRequest) -> Task:
        """Records the task, or returns the one that the same request created before.

        Raises InvalidArgument with every bad field, NotFound for dataset or base model, Unavailable, REQUEST_ID_REUSED.
        """
        draft, ask = _checked(request.task, named=True)
        spec = spec_to_store(request.task.spec, ask)
        request_id = validation.check_request_id(request.request_id)
        digest = _digest(draft, spec)
        # Asked first, so that a repeat is answered even while storage is away.
        if request_id and (first := await self._repository.find_request(request_id, digest)):
            return first
        plan = await self._plan(ask)
        new = NewTask(
            id=self._new_id(),
            display_name=draft.display_name,
            description=draft.description,
            labels=draft.labels,
            spec=spec,
            effective_hyperparameters=hyperparameters_to_proto(plan.effective).SerializeToString(),
            processes=plan.effective.num_processes or 1,
            request_id=request_id,
            request_digest=digest,
        )
        return await self._repository.create(new)

    async def preview(self, request: task_manager_service_pb2.CreateTaskRequest) -> task_pb2.Task:
        """The task as it would be, without a name; stores nothing and raises as `create` does."""
        draft, ask = _checked(request.task, named=True)
        validation.check_request_id(request.request_id)
        plan = await self._plan(ask)
        return task_pb2.Task(
            display_name=draft.display_name,
            description=draft.description,
            labels=draft.labels,
            spec=task_spec_pb2.TaskSpec.FromString(spec_to_store(request.task.spec, ask)),
            effective_hyperparameters=hyperparameters_to_proto(plan.effective),
            state=task_pb2.Task.QUEUED,
        )

    async def plan(self, task: task_pb2.Task) -> Plan:
        """What the task would do; raises as `create` does."""
        _, ask = _checked(task, named=False)
        return await self._plan(ask)

    async def _plan(self, ask: FineTuning) -> Plan:
        dataset = await _found(f"{_PATH}.dataset", self._storage.dataset(ask.dataset))
        if ask.validation_dataset:
            await _found(f"{_PATH}.validation_dataset", self._storage.dataset(ask.validation_dataset))
        base_model = await _found(f"{_PATH}.base_model", self._storage.base_model(ask.base_model))
        facts = methods.facts(
            ask.method,
            ask.tuning,
            dataset.example_count,
            base_model.context_length,
            has_validation_data=bool(ask.validation_dataset),
        )
        return make_plan(hyperparameters.resolve(ask.hyperparameters, facts), dataset.example_count)


def _checked(task: task_pb2.Task, *, named: bool) -> tuple[Draft, FineTuning]:
    draft = draft_from_proto(task)
    return draft, validation.check(draft, named=named)


async def _found(field: str, answer: Awaitable[Found]) -> Found:
    """The answer; says which field of the request asked for it when it does not exist."""
    try:
        return await answer
    except ServiceError as error:
        if error.status != "NOT_FOUND":
            raise
        metadata = {**error.metadata, "field": field}
        raise ServiceError(error.reason, f"{field}: {error.message}", hint=error.hint, metadata=metadata) from error


def _digest(draft: Draft, spec: bytes) -> bytes:
    said = dataclasses.replace(draft, fine_tuning=None)
    text = json.dumps([said.display_name, said.description, dict(said.labels)], sort_keys=True)
    return hashlib.sha256(text.encode() + b"\0" + spec).digest()
