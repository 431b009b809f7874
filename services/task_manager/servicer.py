"""The gRPC face of the task manager: each method checks, calls and converts."""

# ruff: noqa: N802

import datetime
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog
from google.protobuf import empty_pb2

from services.common.errors import NotFound
from services.common.names import resource_uuid
from services.task_manager import stream_messages as streams
from services.task_manager.checkpoints import Checkpoints
from services.task_manager.conversion import task_to_proto, transition_to_proto
from services.task_manager.creation import TaskCreation
from services.task_manager.domain.task import State, Task
from services.task_manager.domain.validation import check_reason
from services.task_manager.evals import Evals
from services.task_manager.filter_conversion import filter_from_proto, time_of
from services.task_manager.history import History
from services.task_manager.outlook import Outlook
from services.task_manager.repository import TaskRepository
from services.task_manager.results import Results
from services.task_manager.retrying import Retrying
from services.task_manager.runners import Runners
from services.task_manager.task_comparison import TaskComparison
from services.task_manager.task_pages import TaskPages
from services.task_manager.task_watch import TaskWatch
from services.task_manager.times import to_timestamp
from services.task_manager.tunings import Tunings
from services.task_manager.update_conversion import update_from_proto
from services.task_manager.watch import Watch
from tunesmith.v1 import eval_pb2, task_manager_service_pb2_grpc, task_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

Context = grpc.aio.ServicerContext[Any, Any]


class TaskManagerServicer(task_manager_service_pb2_grpc.TaskManagerServiceServicer):
    """See the proto for what each method promises."""

    def __init__(
        self,
        repository: TaskRepository,
        creation: TaskCreation,
        *,
        pages: TaskPages,
        history: History,
        watch: Watch,
        task_watch: TaskWatch,
        retrying: Retrying,
        checkpoints: Checkpoints,
        outlook: Outlook,
        comparison: TaskComparison,
        results: Results,
        runners: Runners,
        evals: Evals,
        tunings: Tunings,
    ) -> None:
        self._repository = repository
        self._creation = creation
        self._pages = pages
        self._history = history
        self._watch = watch
        self._task_watch = task_watch
        self._retrying = retrying
        self._checkpoints = checkpoints
        self._outlook = outlook
        self._comparison = comparison
        self._results = results
        self._runners = runners
        self._evals = evals
        self._tunings = tunings

    async def CreateTask(self, request: api.CreateTaskRequest, context: Context) -> task_pb2.Task:
        """Records a task."""
        if request.validate_only:
            return await self._creation.preview(request)
        task = await self._creation.create(request)
        structlog.get_logger().info("task.created", task_id=str(task.id))
        return task_to_proto(task)

    async def PlanTask(self, request: api.PlanTaskRequest, context: Context) -> api.TaskPlan:
        """What CreateTask would do."""
        return await self._creation.plan(request.task)

    async def ListTunings(self, request: api.ListTuningsRequest, context: Context) -> api.ListTuningsResponse:
        """What a base model can be tuned with."""
        return await self._tunings.of(request.base_model)

    async def GetTask(self, request: api.GetTaskRequest, context: Context) -> task_pb2.Task:
        """One task."""
        (task,) = await self._outlook.tell([await self._task(request.name)])
        message = task_to_proto(task)
        if task.state is State.QUEUED:
            message.queue_position = await self._pages.queue_position(task.id)
        await self._results.tell(task, message)
        message.transitions.extend(map(transition_to_proto, await self._repository.transitions(task.id)))
        return message

    async def ListTasks(self, request: api.ListTasksRequest, context: Context) -> api.ListTasksResponse:
        """Tasks, newest first."""
        return await self._pages.page(request)

    async def UpdateTask(self, request: api.UpdateTaskRequest, context: Context) -> task_pb2.Task:
        """Changes what people call a task."""
        task_id = _task_id(request.task.name)
        return task_to_proto(await self._repository.update(task_id, update_from_proto(request)))

    async def WatchTasks(self, request: api.WatchTasksRequest, context: Context) -> AsyncIterator[api.WatchTasksResponse]:
        """The changes of many tasks."""
        wanted = filter_from_proto(request.filter)
        after = time_of(request.after_time, "after_time") if request.HasField("after_time") else None
        async for tasks, reached in self._task_watch.follow(wanted, after):
            told = map(task_to_proto, await self._outlook.tell(tasks))
            yield api.WatchTasksResponse(tasks=told, time=to_timestamp(reached))

    async def CancelTask(self, request: api.CancelTaskRequest, context: Context) -> task_pb2.Task:
        """Asks for the end of a task."""
        task_id = _task_id(request.name)
        check_reason(request.reason)
        return task_to_proto(await self._repository.cancel(task_id, request.reason))

    async def PauseTask(self, request: api.PauseTaskRequest, context: Context) -> task_pb2.Task:
        """Brings a task to rest."""
        task_id = _task_id(request.name)
        check_reason(request.reason)
        return task_to_proto(await self._repository.pause(task_id, request.reason))

    async def ResumeTask(self, request: api.ResumeTaskRequest, context: Context) -> task_pb2.Task:
        """Queues a paused task."""
        return task_to_proto(await self._repository.resume(_task_id(request.name)))

    async def RetryTask(self, request: api.RetryTaskRequest, context: Context) -> task_pb2.Task:
        """Queues a task that ended badly."""
        _task_id(request.name)
        return task_to_proto(await self._retrying.retry(request))

    async def SaveCheckpoint(self, request: api.SaveCheckpointRequest, context: Context) -> api.SaveCheckpointResponse:
        """Asks a running task for a checkpoint."""
        return await self._checkpoints.save(_task_id(request.name), request.label)

    async def ListCheckpoints(self, request: api.ListCheckpointsRequest, context: Context) -> api.ListCheckpointsResponse:
        """What a task can continue from."""
        return await self._checkpoints.list(_task_id(request.name))

    async def DeleteTask(self, request: api.DeleteTaskRequest, context: Context) -> empty_pb2.Empty:
        """Removes a terminal task."""
        try:
            await self._repository.delete(_task_id(request.name))
        except NotFound:
            if not request.allow_missing:
                raise
        return empty_pb2.Empty()

    async def DiffTasks(self, request: api.DiffTasksRequest, context: Context) -> api.DiffTasksResponse:
        """What two tasks do not have in common."""
        first = await self._repository.get(resource_uuid(request.first, "tasks", "first"))
        second = await self._repository.get(resource_uuid(request.second, "tasks", "second"))
        return await self._comparison.compare(first, second)

    async def WatchTask(self, request: api.WatchTaskRequest, context: Context) -> AsyncIterator[api.WatchTaskResponse]:
        """Every event of one task."""
        wanted = streams.wants_kinds(request.kinds)
        async for item in self._watch.follow(_task_id(request.name), request.after_sequence, wanted):
            yield streams.watch_response(item)

    async def StreamMetrics(
        self, request: api.StreamMetricsRequest, context: Context
    ) -> AsyncIterator[api.StreamMetricsResponse]:
        """The metric points of one task."""
        wanted, convert = streams.wants_metrics(request.metrics), streams.metrics_response(request.metrics)
        async for item in self._watch.follow(_task_id(request.name), request.after_sequence, wanted):
            yield convert(item)

    async def StreamLogs(self, request: api.StreamLogsRequest, context: Context) -> AsyncIterator[api.StreamLogsResponse]:
        """The log lines of one task."""
        wanted = streams.wants_logs(request)
        async for item in self._watch.follow(_task_id(request.name), request.after_sequence, wanted):
            yield streams.logs_response(item)

    async def ListEvents(self, request: api.ListEventsRequest, context: Context) -> api.ListEventsResponse:
        """A page of events."""
        return await self._history.events(await self._task(request.name), request)

    async def ListMetrics(self, request: api.ListMetricsRequest, context: Context) -> api.ListMetricsResponse:
        """The metric history."""
        return await self._history.metrics(await self._task(request.name), request)

    async def ListRunners(self, request: api.ListRunnersRequest, context: Context) -> api.ListRunnersResponse:
        """Every trainer."""
        return await self._runners.list()

    async def CreateEval(self, request: api.CreateEvalRequest, context: Context) -> eval_pb2.Eval:
        """Keeps an eval."""
        return await self._evals.create(request)

    async def GetEval(self, request: api.GetEvalRequest, context: Context) -> eval_pb2.Eval:
        """One eval."""
        return await self._evals.get(request.name)

    async def ListEvals(self, request: api.ListEvalsRequest, context: Context) -> api.ListEvalsResponse:
        """A page of evals."""
        return await self._evals.page(request)

    async def UpdateEval(self, request: api.UpdateEvalRequest, context: Context) -> eval_pb2.Eval:
        """Changes an eval's name and labels."""
        return await self._evals.update(request)

    async def DeleteEval(self, request: api.DeleteEvalRequest, context: Context) -> empty_pb2.Empty:
        """Forgets an eval."""
        await self._evals.delete(request.name)
        return empty_pb2.Empty()

    async def _task(self, name: str) -> Task:
        return await self._repository.get(_task_id(name))


def utc_now() -> datetime.datetime:
    """The server's clock."""
    return datetime.datetime.now(datetime.UTC)


def _task_id(name: str) -> uuid.UUID:
    task_id = resource_uuid(name, "tasks")
    structlog.contextvars.bind_contextvars(task_id=str(task_id))
    return task_id
