"""/v1/fine_tuning/jobs: a job is a task of the task manager."""

from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.errors import NotFound, ServiceError
from services.gateway import bodies, identifiers, job_request, lists
from services.gateway.failures import refused
from services.gateway.job_conversion import JobConversion
from services.gateway.job_labels import MULTIPLIER, metadata_of
from services.gateway.model_names import ModelNames
from services.gateway.peers import Peers
from services.gateway.settings import GatewaySettings
from services.gateway.task_pages import tasks_behind
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec

_DEFAULT_LIMIT, _LONGEST_LIST = 20, 1000
_FILES = ("training_file", "validation_file")


class Jobs:
    """The resource."""

    def __init__(self, peers: Peers, settings: GatewaySettings, names: ModelNames, conversion: JobConversion) -> None:
        self._names = names
        self._peers = peers
        self._peer = peers.task_manager
        self._tasks = peers.tasks
        self._max_body = settings.max_body_bytes
        self._conversion = conversion

    async def create(self, request: Request) -> Response:
        """POST; a repeat with the same Idempotency-Key answers with the same job."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = job_request.ignored(body)
        try:
            start = await self._names.tuned(bodies.required(body, "model", str))
            task = job_request.task_of(body, start)
            if MULTIPLIER in task.labels:
                await self._multiply(task)
            created = await self._create(task, request_id=bodies.request_id(request, "jobs"))
        except ServiceError as error:
            raise _naming_the_model(_naming_the_file(error, body), body) from error
        return JSONResponse(self._conversion.job(created))

    async def index(self, request: Request) -> Response:
        """GET: newest first."""
        limit = bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        metadata, without = bodies.metadata_filter(request)
        wanted = api.TaskFilter(labels=metadata, kinds=[TaskSpec.FINE_TUNING])
        after = request.query_params.get("after", "")
        tasks, has_more = await lists.take(self._behind(after, wanted, without_metadata=without), limit)
        return JSONResponse(lists.page_of([self._conversion.job(task) for task in tasks], has_more=has_more))

    async def retrieve(self, request: Request) -> Response:
        """GET one."""
        return self._answer(await self.task(request))

    async def cancel(self, request: Request) -> Response:
        """POST; a job that has ended is a conflict, one that is being cancelled is not."""
        task = await self.task(request)
        if task.state in (Task.SUCCEEDED, Task.FAILED):
            state = Task.State.Name(task.state).lower()
            raise ServiceError("JOB_ENDED", f"the job has {state}; there is nothing to cancel")
        return self._answer(await self._change("CancelTask", api.CancelTaskRequest(name=task.name)))

    async def pause(self, request: Request) -> Response:
        """POST."""
        task = await self.task(request)
        return self._answer(await self._change("PauseTask", api.PauseTaskRequest(name=task.name)))

    async def resume(self, request: Request) -> Response:
        """POST."""
        task = await self.task(request)
        return self._answer(await self._change("ResumeTask", api.ResumeTaskRequest(name=task.name)))

    async def task(self, request: Request) -> Task:
        """The task of the job in the path; raises NotFound, also for a task that does something else than fine-tuning."""
        found: Task = await self._peer.call(self._tasks.GetTask, api.GetTaskRequest(name=_name(request)))
        if not found.spec.HasField("fine_tuning"):
            given = request.path_params["job_id"]
            raise NotFound("TASK_NOT_FOUND", given[:200], message=f"{given[:200]!r} is no fine-tuning job")
        return found

    async def _create(self, task: Task, **options: Any) -> Task:
        created: Task = await self._peer.call(self._tasks.CreateTask, api.CreateTaskRequest(task=task, **options))
        return created

    async def _multiply(self, task: Task) -> None:
        """Sets the learning rate to the multiple of the one the task manager would choose."""
        numbers = task.spec.fine_tuning.hyperparameters
        if numbers.HasField("learning_rate"):
            raise refused("tunesmith.hyperparameters.learning_rate", "stands beside learning_rate_multiplier; give one of them")
        chosen = await self._create(task, validate_only=True)
        numbers.learning_rate = chosen.effective_hyperparameters.learning_rate * float(task.labels[MULTIPLIER])

    async def _change(self, method: str, request: Any) -> Task:
        changed: Task = await self._peer.call(getattr(self._tasks, method), request)
        return changed

    async def _behind(self, after: str, wanted: api.TaskFilter, *, without_metadata: bool) -> AsyncGenerator[Task]:
        async for task in tasks_behind(self._peers, wanted, after, identifiers.task_name):
            if not (without_metadata and metadata_of(task.labels)):
                yield task

    def _answer(self, task: Task) -> Response:
        return JSONResponse(self._conversion.job(task))


def _name(request: Request) -> str:
    return identifiers.task_name(request.path_params["job_id"])


def _naming_the_model(error: ServiceError, body: bodies.Body) -> ServiceError:
    """What a tuned model stands for may be gone: for the caller it is the model that is not found."""
    if error.reason not in ("TASK_NOT_FOUND", "CHECKPOINT_NOT_FOUND", "ARTIFACT_NOT_FOUND", "ARTIFACT_EXPIRED"):
        return error
    return NotFound("MODEL_NOT_FOUND", str(body["model"]), message=error.message)


def _naming_the_file(error: ServiceError, body: bodies.Body) -> ServiceError:
    """A file that does not exist is the body's mistake, not the path's."""
    if error.reason != "DATASET_NOT_FOUND":
        return error
    missing = error.metadata.get("resource", "")
    means = {missing, identifiers.file_id(missing)} if missing.startswith("datasets/") else {missing}
    return refused(next((name for name in _FILES if body.get(name) in means), _FILES[0]), error.message)
