"""The question to the task manager: which states, which dataset, with which key."""

import uuid
from collections.abc import AsyncIterator

import grpc
import pytest

from services.common.channels import connect
from services.common.errors import NotFound, Unavailable
from services.common.interceptors import EdgeInterceptor
from services.storage.live_tasks import GrpcLiveTasks, NoTasks
from tunesmith.v1 import task_manager_service_pb2, task_manager_service_pb2_grpc, task_pb2

State = task_pb2.Task.State
DATASET = "datasets/1"
VERSION = "models/mine/versions/3"


class TaskManager(task_manager_service_pb2_grpc.TaskManagerServiceServicer):
    """Has one task in every state, and two live ones that start from each artifact of an odd number."""

    largest_page = 100

    async def ListTasks(
        self, request: task_manager_service_pb2.ListTasksRequest, context: object
    ) -> task_manager_service_pb2.ListTasksResponse:
        found = [
            task_pb2.Task(name=f"tasks/{name}", state=state)
            for name, state in State.items()
            if state in request.states and request.dataset == DATASET
        ]
        found += self._from(request)
        start = int(request.page_token or 0)
        end = start + min(request.page_size, self.largest_page)
        token = str(end) if end < len(found) and not request.dataset else ""
        return task_manager_service_pb2.ListTasksResponse(tasks=found[start:end], next_page_token=token)

    def _starting(self, request: task_manager_service_pb2.ListTasksRequest) -> list[task_pb2.Task]:
        return [task_pb2.Task(name=f"tasks/{name}") for name in map(State.Name, request.states)]

    def _from(self, request: task_manager_service_pb2.ListTasksRequest) -> list[task_pb2.Task]:
        assert len(request.initial_artifacts) <= 100, "the contract of ListTasks"
        if list(request.initial_artifacts) == [VERSION]:
            return self._starting(request)
        known = [name for name in request.initial_artifacts if uuid.UUID(name.removeprefix("artifacts/")).int % 2]
        live = [State.QUEUED, State.PAUSED] if State.QUEUED in request.states and State.SUCCEEDED not in request.states else []
        return [task_pb2.Task(state=state, origin=task_pb2.TaskOrigin(artifact=name)) for name in known for state in live]

    async def GetTask(self, request: task_manager_service_pb2.GetTaskRequest, context: object) -> task_pb2.Task:
        number = uuid.UUID(request.name.removeprefix("tasks/")).int
        if number not in State.values():
            raise NotFound("TASK_NOT_FOUND", request.name)
        return task_pb2.Task(name=request.name, state=number)


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = grpc.aio.server(interceptors=[EdgeInterceptor(api_key="key")])
    task_manager_service_pb2_grpc.add_TaskManagerServiceServicer_to_server(TaskManager(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def test_tasks_that_may_still_read_are_live(address: str) -> None:
    async with connect(address, api_key="key") as channel:
        tasks = GrpcLiveTasks(channel, api_key="key")
        live = {"QUEUED", "STARTING", "RUNNING", "PAUSING", "PAUSED", "CANCELLING"}
        assert set(await tasks.needing(DATASET, 100)) == {f"tasks/{name}" for name in live}
        assert len(await tasks.needing(DATASET, 2)) == 2
        assert list(await tasks.needing("datasets/other", 100)) == []


async def test_live_tasks_that_start_from_a_version(address: str) -> None:
    async with connect(address, api_key="key") as channel:
        tasks = GrpcLiveTasks(channel, api_key="key")
        live = {"QUEUED", "STARTING", "RUNNING", "PAUSING", "PAUSED", "CANCELLING"}
        assert set(await tasks.starting_from_version(VERSION, 100)) == {f"tasks/{name}" for name in live}
        assert len(await tasks.starting_from_version(VERSION, 2)) == 2
    assert list(await NoTasks().starting_from_version(VERSION, 2)) == []


async def test_of_tasks_those_live_that_are_there_and_have_not_ended(address: str) -> None:
    asked = [uuid.UUID(int=number) for number in (*range(1, len(State.values())), 99)]
    async with connect(address, api_key="key") as channel:
        alive = await GrpcLiveTasks(channel, api_key="key").alive(asked)
    live = {State.QUEUED, State.STARTING, State.RUNNING, State.PAUSING, State.PAUSED, State.CANCELLING}
    assert {identifier.int for identifier in alive} == live


@pytest.mark.parametrize("largest_page", [7, 100])
async def test_artifacts_from_which_live_tasks_start(address: str, monkeypatch: pytest.MonkeyPatch, largest_page: int) -> None:
    monkeypatch.setattr(TaskManager, "largest_page", largest_page)
    async with connect(address, api_key="key") as channel:
        found = await GrpcLiveTasks(channel, api_key="key").starting_from([uuid.UUID(int=number) for number in range(250)])
    assert sorted(each.int for each in found) == list(range(1, 250, 2))


async def test_about_tasks_that_nobody_can_be_asked_about_nothing_is_said() -> None:
    async with connect("127.0.0.1:1") as channel:
        with pytest.raises(Unavailable):
            await GrpcLiveTasks(channel).alive([uuid.UUID(int=1)])
        with pytest.raises(Unavailable):
            await GrpcLiveTasks(channel).starting_from([uuid.UUID(int=1)])
    assert list(await NoTasks().alive([uuid.UUID(int=1)])) == []
    assert list(await NoTasks().starting_from([uuid.UUID(int=1)])) == []


async def test_nobody_there_is_unavailable() -> None:
    async with connect("127.0.0.1:1") as channel:
        with pytest.raises(Unavailable) as caught:
            await GrpcLiveTasks(channel).needing(DATASET, 1)
    assert caught.value.reason == "TASK_MANAGER_UNAVAILABLE"


async def test_a_refused_question_is_no_permission(address: str) -> None:
    async with connect(address) as channel:
        with pytest.raises(Exception, match="API key"):
            await GrpcLiveTasks(channel).needing(DATASET, 1)


async def test_without_a_task_manager_nothing_needs_a_dataset() -> None:
    assert list(await NoTasks().needing(DATASET, 1)) == []
