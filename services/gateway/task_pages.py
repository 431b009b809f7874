"""Pages of tasks, newest first, found by the id of the last one told; used by jobs, batches and runs of evals."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import ServiceError
from services.gateway import lists
from services.gateway.peers import Peers
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.task_pb2 import Task

_PAGE = 200


async def tasks_behind(peers: Peers, wanted: api.TaskFilter, after: str, name_of: Callable[[str], str]) -> AsyncGenerator[Task]:
    """The tasks behind the one with the id `after` (all without it), by time and id: what was created meanwhile shifts nothing.

    `name_of` is the task's name of an id. Raises InvalidArgument when there is no such task.
    """
    position = await _position(peers, after, name_of) if after else None
    if position:
        # The filter's bound is exclusive, and others may have been created in the same microsecond.
        wanted.before_create_time.FromNanoseconds(position.create_time.ToNanoseconds() + 1000)
    async for task in _all(peers, wanted):
        if not (position and _place(task) >= _place(position)):
            yield task


async def with_results(peers: Peers, tasks: Iterable[Task]) -> list[Task]:
    """The same tasks as GetTask tells them: lists leave out what evaluations and generations have found."""
    return await asyncio.gather(*(_with_result(peers, task) for task in tasks))


async def _with_result(peers: Peers, task: Task) -> Task:
    if task.state not in (Task.SUCCEEDED, Task.CANCELLED):
        return task
    try:
        found: Task = await peers.task_manager.call(peers.tasks.GetTask, api.GetTaskRequest(name=task.name))
    except ServiceError as error:
        if error.status != "NOT_FOUND":
            raise
        return task
    return found


async def _position(peers: Peers, after: str, name_of: Callable[[str], str]) -> Task:
    try:
        found: Task = await peers.task_manager.call(peers.tasks.GetTask, api.GetTaskRequest(name=name_of(after)))
    except ServiceError as error:
        if error.status != "NOT_FOUND":
            raise
        raise lists.unknown_cursor(after) from error
    return found


async def _all(peers: Peers, wanted: api.TaskFilter) -> AsyncGenerator[Task]:
    token = ""
    while True:
        request = api.ListTasksRequest(page_size=_PAGE, page_token=token, filter=wanted)
        page = await peers.task_manager.call(peers.tasks.ListTasks, request)
        for task in page.tasks:
            yield task
        if not (token := page.next_page_token):
            return


def _place(task: Task) -> tuple[int, str]:
    time: Timestamp = task.create_time
    return time.ToNanoseconds(), task.name
