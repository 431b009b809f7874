"""From a request to a recorded task, or to its plan: check, ask storage, resolve, record; used by the servicer."""

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Callable

from services.common.names import resource_uuid
from services.task_manager.domain import four_bit, validation
from services.task_manager.domain.placement import Placement
from services.task_manager.domain.task import NewTask, Task
from services.task_manager.domain.validation import A, Draft
from services.task_manager.domain.waiting import plan_warning
from services.task_manager.kinds.table import Kinds
from services.task_manager.kinds.work import Work
from services.task_manager.origins import Origins
from services.task_manager.project_retention import ProjectRetention
from services.task_manager.repository import TaskRepository
from services.task_manager.roster import Roster
from services.task_manager.spec_conversion import draft_from_proto
from services.task_manager.times import to_timestamp
from tunesmith.v1 import task_manager_service_pb2, task_pb2, task_spec_pb2


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
        kinds: Kinds,
        origins: Origins,
        roster: Roster,
        patience: Patience,
        retention: ProjectRetention,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self._repository = repository
        self._kinds = kinds
        self._origins = origins
        self._roster = roster
        self._patience = patience
        self._retention = retention
        self._new_id = new_id

    async def create(self, request: task_manager_service_pb2.CreateTaskRequest) -> Task:
        """Records the task, or returns the one that the same request created before.

        Raises InvalidArgument with every bad field, NotFound for dataset or base model, Unavailable, REQUEST_ID_REUSED.
        """
        draft, work = self._checked(request.task, named=True)
        request_id = validation.check_request_id(request.request_id)
        digest = _digest(draft, work.spec())
        # Asked first, so that a repeat is answered even while storage is away.
        if request_id and (first := await self._repository.find_request(request_id, digest)):
            return first
        cloned_from = resource_uuid(request.cloned_from, "tasks", "cloned_from") if request.cloned_from else None
        found = await work.resolve(patience=self._patience.create)
        if origin := found.origin:
            await self._origins.keep(origin.name)
        new = NewTask(
            id=self._new_id(),
            display_name=draft.display_name,
            description=draft.description,
            labels=draft.labels,
            kind=found.kind,
            spec=self._retention.applied(found.spec, draft.labels),
            effective_hyperparameters=found.effective_hyperparameters.SerializeToString(),
            processes=found.processes,
            datasets=found.datasets,
            base_model=found.base_model,
            method=found.method,
            tuning=found.tuning,
            note=found.note,
            request_id=request_id,
            request_digest=digest,
            priority=draft.priority,
            origin_artifact=origin.name if origin else "",
            origin_task=resource_uuid(origin.task, "tasks") if origin and origin.task else None,
            origin_step=origin.step if origin else 0,
            cloned_from=cloned_from,
            not_before=draft.not_before,
            max_attempts=draft.max_attempts,
            expected_duration=found.expected_duration,
            memory_bytes=found.memory_bytes,
            runner_labels=_runner_labels(request.task),
            creator=draft.creator,
        )
        return await self._repository.create(new)

    async def preview(self, request: task_manager_service_pb2.CreateTaskRequest) -> task_pb2.Task:
        """The task as it would be, without a name; stores nothing and raises as `create` does."""
        draft, work = self._checked(request.task, named=True)
        validation.check_request_id(request.request_id)
        found = await work.resolve(patience=self._patience.create)
        return task_pb2.Task(
            display_name=draft.display_name,
            description=draft.description,
            labels=draft.labels,
            priority=draft.priority,
            not_before_time=to_timestamp(draft.not_before),
            max_attempts=draft.max_attempts or 0,
            creator=draft.creator,
            spec=task_spec_pb2.TaskSpec.FromString(self._retention.applied(found.spec, draft.labels)),
            effective_hyperparameters=found.effective_hyperparameters,
            state=task_pb2.Task.QUEUED,
        )

    async def plan(self, task: task_pb2.Task) -> task_manager_service_pb2.TaskPlan:
        """What the task would do; raises as `create` does."""
        _, work = self._checked(task, named=False)
        trainers = await self._roster.ask()
        plan = await work.plan(patience=self._patience.plan)
        processes = plan.effective_hyperparameters.num_processes or 1
        need = Placement(processes, plan.estimated_peak_memory_bytes, _runner_labels(task))
        plan.warnings.extend(filter(None, [plan_warning(need, trainers)]))
        return plan

    def _checked(self, task: task_pb2.Task, *, named: bool) -> tuple[Draft[Work], Work]:
        draft = draft_from_proto(task, self._kinds.read(task.spec))
        return draft, validation.check(draft, named=named, kinds=self._kinds.known)


def _runner_labels(task: task_pb2.Task) -> dict[str, str]:
    """What a runner must have: what the task asks for, and what its tuning takes."""
    tuning = task.spec.fine_tuning.tuning
    return {**task.spec.runner_labels, **(four_bit.LABELS if tuning == task_spec_pb2.FineTuning.QLORA else {})}


def _digest(draft: Draft[A], spec: bytes) -> bytes:
    words: list[object] = [draft.display_name, draft.description, dict(draft.labels)]
    # What is left out is not in the digest, so that those of tasks from before stay what they were.
    words += [draft.priority] if draft.priority else []
    words += [f"not before {draft.not_before.isoformat()}"] if draft.not_before else []
    words += [f"at most {draft.max_attempts}"] if draft.max_attempts else []
    words += [f"asked for by {draft.creator}"] if draft.creator else []
    text = json.dumps(words, sort_keys=True)
    return hashlib.sha256(text.encode() + b"\0" + spec).digest()
