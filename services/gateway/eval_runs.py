"""/v1/evals/{eval_id}/runs: a run is an evaluation task over a dataset that is made of its items."""

import json
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.common.errors import ServiceError
from services.gateway import bodies, eval_run_request, identifiers, job_labels, lists
from services.gateway.eval_conversion import EVAL_LABEL, STATUS, criteria_of, run_object
from services.gateway.eval_criteria import score_models
from services.gateway.eval_lookup import EvalLookup
from services.gateway.eval_run_data import store
from services.gateway.eval_run_request import RunSource, run_name, run_source, told_source
from services.gateway.eval_run_rows import RunRows
from services.gateway.item_schema import ItemSchema
from services.gateway.job_labels import metadata_in
from services.gateway.model_names import ModelNames
from services.gateway.peers import Peers
from services.gateway.settings import GatewaySettings
from services.gateway.task_pages import tasks_behind, with_results
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.eval_pb2 import Eval
from tunesmith.v1.evaluation_pb2 import Evaluation
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec

_DEFAULT_LIMIT, _LONGEST_LIST = 20, 100


class EvalRuns:
    """The resource."""

    def __init__(self, peers: Peers, settings: GatewaySettings, names: ModelNames) -> None:
        self._peers = peers
        self._names = names
        self._lookup = EvalLookup(peers)
        self._max_body = settings.max_body_bytes

    async def create(self, request: Request) -> Response:
        """POST; a repeat with the same Idempotency-Key answers with the same run."""
        body = await bodies.read_json(request, self._max_body)
        request.state.ignored_parameters = eval_run_request.ignored(body)
        source, metadata, kept = run_source(body), metadata_in(body), await self._lookup.eval(request)
        eval_id = identifiers.eval_id(kept.name)
        task = Task(
            display_name=run_name(body, f"{kept.display_name} {source.model}"),
            labels={**metadata, EVAL_LABEL: eval_id, job_labels.MODEL: source.model},
        )
        task.spec.evaluation.CopyFrom(await self._evaluation(task.display_name, kept, source))
        asked = api.CreateTaskRequest(task=task, request_id=bodies.request_id(request, f"runs of {eval_id}"))
        made = await self._lookup.call("CreateTask", asked)
        return JSONResponse(run_object(made, criteria_of(kept), _url(request)), 201)

    async def index(self, request: Request) -> Response:
        """GET: oldest first unless `order=desc`."""
        limit = bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        order = bodies.choice(request, "order", "asc", ("asc", "desc"))
        status = bodies.choice(request, "status", "", ("", *dict.fromkeys(STATUS.values())))
        kept = await self._lookup.eval(request)
        tasks = [task async for task in self._all(kept)][:: 1 if order == "desc" else -1]
        after = request.query_params.get("after", "")
        listed, has_more = lists.cut(tasks, after, limit, _id, lambda task: status in ("", STATUS.get(task.state)))
        page, criteria, url = await with_results(self._peers, listed), criteria_of(kept), _url(request)
        return JSONResponse(lists.page_of([run_object(task, criteria, url) for task in page], has_more=has_more))

    async def retrieve(self, request: Request) -> Response:
        """GET one."""
        kept, task = await self._lookup.run(request)
        return _told(request, task, kept)

    async def cancel(self, request: Request) -> Response:
        """POST; a run that has ended is a conflict, one that is being cancelled is not."""
        kept, task = await self._lookup.run(request)
        if task.state in (Task.SUCCEEDED, Task.FAILED):
            message = f"the run has {Task.State.Name(task.state).lower()}; there is nothing to cancel"
            raise ServiceError("JOB_ENDED", message, hint="Create a new run.")
        return _told(request, await self._lookup.call("CancelTask", api.CancelTaskRequest(name=task.name)), kept)

    async def delete(self, request: Request) -> Response:
        """DELETE; a run that has not ended is a conflict."""
        _, task = await self._lookup.run(request)
        await self._lookup.call("DeleteTask", api.DeleteTaskRequest(name=task.name))
        identifier = identifiers.eval_run_id(task.name)
        return JSONResponse({"object": "eval.run.deleted", "deleted": True, "run_id": identifier})

    async def _evaluation(self, name: str, kept: Eval, source: RunSource) -> Evaluation:
        """What is asked of the task manager; the rows are stored."""
        criteria = criteria_of(kept)
        models = [await self._names.model(source.model)] if source.model else []
        graders = criteria.graders()
        for judge in score_models(graders):
            judge.model = await self._names.model(judge.model)
        schema = ItemSchema(json.loads(kept.data_source_config)["item_schema"])
        dataset = await store(self._peers, name, source, RunRows(source, criteria, schema))
        return Evaluation(
            models=models,
            answers_in_rows=not models,
            # Nothing of OpenAI's tells it, and the known answers of its evals are seldom what a model would say.
            perplexity=False,
            dataset=dataset.name,
            graders=graders,
            sampling=source.sampling,
            data_source=told_source(source, identifiers.file_id(dataset.name)),
        )

    def _all(self, kept: Eval) -> AsyncIterator[Task]:
        """Newest first."""
        wanted = api.TaskFilter(labels={EVAL_LABEL: identifiers.eval_id(kept.name)}, kinds=[TaskSpec.EVALUATION])
        return tasks_behind(self._peers, wanted, "", identifiers.eval_run_task)


def _told(request: Request, task: Task, kept: Eval) -> Response:
    return JSONResponse(run_object(task, criteria_of(kept), _url(request)))


def _id(task: Task) -> str:
    return identifiers.eval_run_id(task.name)


def _url(request: Request) -> str:
    """Of all runs."""
    return f"{request.base_url}v1/evals/{request.path_params['eval_id']}/runs"
