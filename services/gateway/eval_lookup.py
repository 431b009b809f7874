"""The eval and the run that a path means; used by evals, their runs and output items."""

from typing import Any

from starlette.requests import Request

from services.common.errors import NotFound, ServiceError
from services.gateway import identifiers
from services.gateway.eval_conversion import is_run_of
from services.gateway.peers import Peers
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.eval_pb2 import Eval
from tunesmith.v1.task_pb2 import Task


class EvalLookup:
    """Asks the task manager."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def call(self, method: str, request: Any) -> Any:
        """Of the task manager; raises ServiceError."""
        return await self._peers.task_manager.call(getattr(self._peers.tasks, method), request)

    async def eval(self, request: Request) -> Eval:
        """The eval in the path; raises NotFound."""
        name = identifiers.eval_name(request.path_params["eval_id"])
        found: Eval = await self.call("GetEval", api.GetEvalRequest(name=name))
        return found

    async def run(self, request: Request) -> tuple[Eval, Task]:
        """The eval in the path and its run; raises NotFound, also for a run of another eval."""
        kept, given = await self.eval(request), request.path_params["run_id"]
        eval_id = identifiers.eval_id(kept.name)
        task = await self._task(identifiers.eval_run_task(given))
        if task is None or not is_run_of(task, eval_id):
            raise NotFound("EVAL_RUN_NOT_FOUND", given, message=f"{given!r} is no run of {eval_id}")
        return kept, task

    async def _task(self, name: str) -> Task | None:
        try:
            task: Task = await self.call("GetTask", api.GetTaskRequest(name=name))
        except ServiceError as error:
            if error.status != "NOT_FOUND":
                raise
            return None
        return task
