"""/v1/fine_tuning/jobs/{id}/checkpoints: what the task manager lists."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.gateway import bodies, lists
from services.gateway.jobs import Jobs
from tunesmith.v1.task_pb2 import Task

_DEFAULT_LIMIT, _LONGEST_LIST = 10, 1000


class Checkpoints:
    """The resource; `jobs` finds the task of a path."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    async def index(self, request: Request) -> Response:
        """GET: newest first."""
        task = await self._jobs.task(request)
        bodies.whole_number(request, "limit", _DEFAULT_LIMIT, _LONGEST_LIST)
        if after := request.query_params.get("after", ""):
            raise lists.unknown_cursor(after)
        return JSONResponse(lists.page_of(await self._checkpoints(task), has_more=False))

    async def _checkpoints(self, task: Task) -> list[dict[str, Any]]:
        """Empty: the task manager does not list checkpoints yet, and a model made of one could not be used."""
        return []
