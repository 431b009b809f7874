"""/v1/fine_tuning/jobs/{id}/checkpoints: what the task manager lists."""

import math
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies, identifiers, lists
from services.gateway.event_conversion import metrics_data
from services.gateway.job_conversion import JobConversion
from services.gateway.jobs import Jobs
from services.gateway.peers import Peers
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.task_pb2 import Task

_DEFAULT_LIMIT, _LONGEST_LIST = 10, 1000


class Checkpoints:
    """The resource; `jobs` finds the task of a path."""

    def __init__(self, peers: Peers, jobs: Jobs, conversion: JobConversion) -> None:
        self._peer = peers.task_manager
        self._tasks = peers.tasks
        self._jobs = jobs
        self._conversion = conversion

    async def index(self, request: Request) -> Response:
        """GET: newest step first."""
        task = await self._jobs.task(request)
        limit = bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        answer = await self._peer.call(self._tasks.ListCheckpoints, api.ListCheckpointsRequest(name=task.name))
        found = _behind(request.query_params.get("after", ""), [self._object(task, each) for each in answer.checkpoints])
        return JSONResponse(lists.page_of(found[:limit], has_more=len(found) > limit))

    def _object(self, task: Task, checkpoint: api.Checkpoint) -> dict[str, Any]:
        return {
            "id": identifiers.checkpoint_id(task.name, checkpoint.step),
            "object": "fine_tuning.job.checkpoint",
            "created_at": checkpoint.create_time.seconds,
            "fine_tuned_model_checkpoint": identifiers.checkpoint_model_id(self._conversion.tuned_model(task), checkpoint.step),
            "fine_tuning_job_id": identifiers.job_id(task.name),
            # The contract has numbers only, and JSON has no NaN.
            "metrics": metrics_data(checkpoint.step, {name: x for name, x in checkpoint.metrics.items() if math.isfinite(x)}),
            "step_number": checkpoint.step,
        }


def _behind(after: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What follows the checkpoint `after`; all without one. Raises InvalidArgument for one that is not there."""
    if not after:
        return found
    places = [index for index, each in enumerate(found) if each["id"] == after]
    if not places:
        raise lists.unknown_cursor(after)
    return found[places[0] + 1 :]
