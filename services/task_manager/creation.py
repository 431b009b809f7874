"""From a request to a recorded task, or to its plan: check, ask storage, resolve, record; used by the servicer."""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Callable

from services.common.names import resource_uuid
from services.task_manager.domain import validation
from services.task_manager.domain.findings import Findings
from services.task_manager.domain.plan import Plan
from services.task_manager.domain.task import NewTask, Task
from services.task_manager.domain.validation import Draft, FineTuning
from services.task_manager.inquiry import Inquiry
from services.task_manager.origins import Origins
from services.task_manager.planning import Planning
from services.task_manager.repository import TaskRepository
from services.task_manager.spec_conversion import draft_from_proto, hyperparameters_to_proto, spec_to_store
from services.task_manager.times import to_timestamp
from tunesmith.v1 import task_manager_service_pb2, task_pb2, task_spec_pb2

_NOT_COUNTED = "its tokens were not counted in time, so training checks the lengths of its rows"


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for tokens to be counted."""

    create: float
    plan: float


class TaskCreation:
    """`new_id` makes the ids of tasks."""

    def __init__(
        self,
        *,
        repository: TaskRepository,
        inquiry: Inquiry,
        planning: Planning,
        origins: Origins,
        patience: Patience,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._repository = repository
        self._inquiry = inquiry
        self._planning = planning
        self._origins = origins
        self._patience = patience
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
        cloned_from = resource_uuid(request.cloned_from, "tasks", "cloned_from") if request.cloned_from else None
        ask, origin = await self._origins.of(ask)
        findings = await self._inquiry.about(ask, patience=self._patience.create)
        if origin:
            await self._origins.keep(origin.name)
        new = NewTask(
            id=self._new_id(),
            display_name=draft.display_name,
            description=draft.description,
            labels=draft.labels,
            spec=spec_to_store(request.task.spec, ask),
            effective_hyperparameters=hyperparameters_to_proto(findings.effective).SerializeToString(),
            processes=findings.effective.num_processes or 1,
            datasets=_datasets(ask),
            base_model=ask.base_model,
            method=ask.method,
            tuning=ask.tuning,
            note=_note(findings),
            request_id=request_id,
            request_digest=digest,
            priority=draft.priority,
            origin_artifact=origin.name if origin else "",
            origin_task=resource_uuid(origin.task, "tasks") if origin else None,
            origin_step=origin.step if origin else 0,
            cloned_from=cloned_from,
            not_before=draft.not_before,
            max_attempts=draft.max_attempts,
            expected_duration=await self._planning.expected_duration(findings),
        )
        return await self._repository.create(new)

    async def preview(self, request: task_manager_service_pb2.CreateTaskRequest) -> task_pb2.Task:
        """The task as it would be, without a name; stores nothing and raises as `create` does."""
        draft, ask = _checked(request.task, named=True)
        validation.check_request_id(request.request_id)
        ask, _ = await self._origins.of(ask)
        findings = await self._inquiry.about(ask, patience=self._patience.create)
        return task_pb2.Task(
            display_name=draft.display_name,
            description=draft.description,
            labels=draft.labels,
            priority=draft.priority,
            not_before_time=to_timestamp(draft.not_before),
            max_attempts=draft.max_attempts or 0,
            spec=task_spec_pb2.TaskSpec.FromString(spec_to_store(request.task.spec, ask)),
            effective_hyperparameters=hyperparameters_to_proto(findings.effective),
            state=task_pb2.Task.QUEUED,
        )

    async def plan(self, task: task_pb2.Task) -> Plan:
        """What the task would do; raises as `create` does."""
        _, ask = _checked(task, named=False)
        ask, _ = await self._origins.of(ask)
        return await self._planning.plan(ask, patience=self._patience.plan)


def _checked(task: task_pb2.Task, *, named: bool) -> tuple[Draft, FineTuning]:
    draft = draft_from_proto(task)
    return draft, validation.check(draft, named=named)


def _datasets(ask: FineTuning) -> tuple[uuid.UUID, ...]:
    names = {source.dataset for source in ask.sources} | ({ask.validation_dataset} if ask.validation_dataset else set())
    return tuple(resource_uuid(name, "datasets") for name in sorted(names))


def _note(findings: Findings) -> str:
    is_counted = findings.tokens.known and (findings.inputs.validation is None or findings.tokens.validation is not None)
    return "" if is_counted else _NOT_COUNTED


def _digest(draft: Draft, spec: bytes) -> bytes:
    said = dataclasses.replace(draft, fine_tuning=None)
    words: list[object] = [said.display_name, said.description, dict(said.labels)]
    # What is left out is not in the digest, so that those of tasks from before stay what they were.
    words += [said.priority] if said.priority else []
    words += [f"not before {said.not_before.isoformat()}"] if said.not_before else []
    words += [f"at most {said.max_attempts}"] if said.max_attempts else []
    text = json.dumps(words, sort_keys=True)
    return hashlib.sha256(text.encode() + b"\0" + spec).digest()
