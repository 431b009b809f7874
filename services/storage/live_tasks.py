"""Asks the task manager which tasks live and which need a dataset, artifact or version; used by deletions and the sweeper."""

import uuid
from collections.abc import Collection, Sequence
from typing import Protocol

import grpc

from services.common.channels import call_metadata, translated
from services.common.errors import ServiceError
from services.common.names import resource_uuid
from services.storage.artifact import artifact_name
from tunesmith.v1 import task_manager_service_pb2, task_manager_service_pb2_grpc, task_pb2

_LIVE = tuple(
    state for name, state in task_pb2.Task.State.items() if name not in ("STATE_UNSPECIFIED", "SUCCEEDED", "FAILED", "CANCELLED")
)

_NAMES_AT_ONCE, _PAGE = 100, 1000


class LiveTasks(Protocol):
    """Who may need datasets and checkpoints."""

    async def needing(self, dataset: str, limit: int) -> Sequence[str]:
        """Names of at most `limit` live tasks that train or validate on a dataset, given by its resource name.

        Raises Unavailable (TASK_MANAGER_UNAVAILABLE) when nobody answers.
        """

    async def alive(self, tasks: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        """Those of the tasks that exist and are not terminal; raises Unavailable (TASK_MANAGER_UNAVAILABLE)."""

    async def starting_from(self, artifacts: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        """Those of the artifacts from which a live task starts; raises Unavailable (TASK_MANAGER_UNAVAILABLE)."""

    async def starting_from_version(self, version: str, limit: int) -> Sequence[str]:
        """Names of at most `limit` live tasks that start from `models/{model}/versions/{version}`.

        Raises Unavailable (TASK_MANAGER_UNAVAILABLE).
        """


class NoTasks:
    """A storage service without a task manager."""

    async def needing(self, dataset: str, limit: int) -> Sequence[str]:
        """None ever."""
        return ()

    async def alive(self, tasks: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        """None ever."""
        return ()

    async def starting_from(self, artifacts: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        """None ever."""
        return ()

    async def starting_from_version(self, version: str, limit: int) -> Sequence[str]:
        """None ever."""
        return ()


class GrpcLiveTasks:
    """Asks over a channel, within `deadline` seconds."""

    def __init__(self, channel: grpc.aio.Channel, *, api_key: str = "", deadline: float = 10.0) -> None:
        self._stub = task_manager_service_pb2_grpc.TaskManagerServiceStub(channel)
        self._api_key = api_key
        self._deadline = deadline

    async def needing(self, dataset: str, limit: int) -> Sequence[str]:
        """Names of at most `limit` live tasks that need the dataset; raises Unavailable."""
        request = task_manager_service_pb2.ListTasksRequest(page_size=limit, states=_LIVE, dataset=dataset)
        return [task.name for task in (await self._list(request)).tasks]

    async def alive(self, tasks: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        """Those of the tasks that exist and are not terminal; raises Unavailable."""
        return [task for task in tasks if await self._is_alive(task)]

    async def starting_from(self, artifacts: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        """Those of the artifacts from which a live task starts; raises Unavailable."""
        found: set[uuid.UUID] = set()
        names = sorted(map(artifact_name, artifacts))
        for first in range(0, len(names), _NAMES_AT_ONCE):
            few = names[first : first + _NAMES_AT_ONCE]
            request = task_manager_service_pb2.ListTasksRequest(page_size=_PAGE, states=_LIVE, initial_artifacts=few)
            while True:
                answer = await self._list(request)
                found |= {resource_uuid(task.origin.artifact, "artifacts") for task in answer.tasks}
                if not answer.next_page_token:
                    break
                request.page_token = answer.next_page_token
        return found

    async def starting_from_version(self, version: str, limit: int) -> Sequence[str]:
        """Names of at most `limit` live tasks that start from the version; raises Unavailable."""
        request = task_manager_service_pb2.ListTasksRequest(page_size=limit, states=_LIVE, initial_artifacts=[version])
        return [task.name for task in (await self._list(request)).tasks]

    async def _list(self, request: task_manager_service_pb2.ListTasksRequest) -> task_manager_service_pb2.ListTasksResponse:
        with translated("TASK_MANAGER_UNAVAILABLE", "the task manager"):
            return await self._stub.ListTasks(request, timeout=self._deadline, metadata=call_metadata(self._api_key))

    async def _is_alive(self, task: uuid.UUID) -> bool:
        request = task_manager_service_pb2.GetTaskRequest(name=f"tasks/{task}")
        try:
            with translated("TASK_MANAGER_UNAVAILABLE", "the task manager"):
                found = await self._stub.GetTask(request, timeout=self._deadline, metadata=call_metadata(self._api_key))
        except ServiceError as error:
            if error.reason != "TASK_NOT_FOUND":
                raise
            return False
        return found.state in _LIVE
