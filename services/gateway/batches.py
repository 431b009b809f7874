"""/v1/batches: a batch is a generation task; its file names model and sampling, once for all of its requests."""

import contextlib
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.errors import NotFound, ServiceError
from services.common.grading.sampling import Sampling
from services.gateway import batch_request, bodies, identifiers, job_labels, lists
from services.gateway.batch_conversion import ENDPOINT_LABEL, batch, is_batch
from services.gateway.batch_request import ENDPOINT, BatchRequest
from services.gateway.bodies import Body, required
from services.gateway.failures import placed, refused
from services.gateway.file_conversion import BATCH, purpose_of
from services.gateway.job_labels import metadata_in
from services.gateway.lines import lines_in
from services.gateway.model_names import ModelNames
from services.gateway.peers import Peers
from services.gateway.settings import GatewaySettings
from services.gateway.task_pages import tasks_behind, with_results
from services.gateway.unsupported import refuse_present
from tunesmith.v1 import dataset_service_pb2 as datasets
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.dataset_pb2 import Dataset
from tunesmith.v1.generation_pb2 import Generation
from tunesmith.v1.sampling_pb2 import Sampling as SamplingMessage
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec

REFUSED = {"output_expires_after": "is not supported; the files of a batch end with its artifact, see their expires_at"}
_READ = ("input_file_id", "endpoint", "completion_window", "metadata")
_DEFAULT_LIMIT, _LONGEST_LIST = 20, 100
_READ_SECONDS = 60.0


def ignored(body: Body) -> list[str]:
    """What the body has beyond what is read; it is told in a header."""
    return sorted(set(body) - {*_READ, *REFUSED})


class Batches:
    """The resource."""

    def __init__(self, peers: Peers, settings: GatewaySettings, names: ModelNames) -> None:
        self._peers = peers
        self._names = names
        self._max_body = settings.max_body_bytes

    async def create(self, request: Request) -> Response:
        """POST; a repeat with the same Idempotency-Key answers with the same batch."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = ignored(body)
        _check(body)
        dataset = await self._dataset(required(body, "input_file_id", str))
        first = await self._first(dataset.name)
        task = Task(
            display_name=dataset.display_name,
            labels={**metadata_in(body), ENDPOINT_LABEL: ENDPOINT, job_labels.MODEL: first.model},
            spec=TaskSpec(generation=await self._generation(dataset.name, first)),
        )
        asked = api.CreateTaskRequest(task=task, request_id=bodies.request_id(request, "batches"))
        return JSONResponse(batch(await self._tasks("CreateTask", asked)))

    async def index(self, request: Request) -> Response:
        """GET: newest first."""
        limit = bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        wanted = api.TaskFilter(labels={ENDPOINT_LABEL: ENDPOINT}, kinds=[TaskSpec.GENERATION])
        behind = tasks_behind(self._peers, wanted, request.query_params.get("after", ""), identifiers.batch_task_name)
        listed, has_more = await lists.take(behind, limit)
        tasks = await with_results(self._peers, listed)
        return JSONResponse(lists.page_of([batch(task) for task in tasks], has_more=has_more))

    async def retrieve(self, request: Request) -> Response:
        """GET one."""
        return JSONResponse(batch(await self._task(request)))

    async def cancel(self, request: Request) -> Response:
        """POST; a batch that has ended is a conflict, one that is being cancelled is not."""
        task = await self._task(request)
        if task.state in (Task.SUCCEEDED, Task.FAILED):
            state = Task.State.Name(task.state).lower()
            raise ServiceError("JOB_ENDED", f"the batch has {state}; there is nothing to cancel", hint="Create a new batch.")
        return JSONResponse(batch(await self._tasks("CancelTask", api.CancelTaskRequest(name=task.name))))

    async def _task(self, request: Request) -> Task:
        """The task of the batch in the path; raises NotFound, also for a task that is no batch."""
        given = request.path_params["batch_id"]
        found = await self._tasks("GetTask", api.GetTaskRequest(name=identifiers.batch_task_name(given)))
        if not is_batch(found):
            raise NotFound("TASK_NOT_FOUND", given[:200], message=f"{given[:200]!r} is no batch")
        return found

    async def _tasks(self, method: str, request: Any) -> Task:
        answer: Task = await self._peers.task_manager.call(getattr(self._peers.tasks, method), request)
        return answer

    async def _dataset(self, given: str) -> Dataset:
        """The file with the requests; raises InvalidArgument, also for one that does not exist: it is the body's mistake."""
        try:
            asked = datasets.GetDatasetRequest(name=identifiers.dataset_name(given))
            found: Dataset = await self._peers.storage.call(self._peers.datasets.GetDataset, asked)
        except ServiceError as error:
            if error.status != "NOT_FOUND":
                raise
            raise refused("input_file_id", error.message) from error
        if purpose_of(found) != BATCH:
            raise refused("input_file_id", f"{given!r} is no file of purpose {BATCH}")
        return found

    async def _first(self, dataset: str) -> BatchRequest:
        """The first request, which says what all have in common."""
        asked = datasets.DownloadDatasetRequest(name=dataset)
        stream = self._peers.storage.stream(self._peers.datasets.DownloadDataset, asked, _READ_SECONDS)
        async with contextlib.aclosing(stream):
            async for line in lines_in(message.chunk async for message in stream):
                with placed("input_file_id: "):
                    return batch_request.request_of(batch_request.given_in(json.loads(line)))
        raise refused("input_file_id", "the file holds no request")

    async def _generation(self, dataset: str, first: BatchRequest) -> Generation:
        return Generation(model=await self._names.model(first.model), dataset=dataset, sampling=_message(first.sampling))


def _check(body: Body) -> None:
    refuse_present(body, REFUSED)
    for name, only in (("endpoint", ENDPOINT), ("completion_window", "24h")):
        if (given := required(body, name, str)) != only:
            raise refused(name, f"{given[:80]!r} is not supported; use {only!r}", reason="UNSUPPORTED_PARAMETER")


def _message(sampling: Sampling) -> SamplingMessage:
    return SamplingMessage(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop=sampling.stop,
    )
