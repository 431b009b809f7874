"""A running task manager for tests, and a client that speaks to it."""

import asyncio
import contextlib
import datetime
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from integration.task_manager.fake_peers import BASE_MODEL, DATASET, FakeRun, FakeTrainer
from stream_contract import check_events, check_stream
from stream_model import StreamModel

from services.common.channels import connect
from services.common.config import Secret
from services.task_manager.__main__ import running
from services.task_manager.settings import TaskManagerSettings
from tests.ports import free_port
from tunesmith.v1 import task_event_pb2, task_manager_service_pb2_grpc, task_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

DEADLINE_SECONDS = 30.0
T = TypeVar("T")


def make_settings(dsn: str, storage: str, trainers: tuple[str, ...], **changes: Any) -> TaskManagerSettings:
    """Settings with short intervals. The lease is also how long a transaction may stand still, as a busy machine makes it."""
    short = {
        "lease": 15.0,
        "lease_renewal": 0.3,
        "dispatch_interval": 0.1,
        "retry_interval": 0.1,
        "retry_backoff": 0.02,
        "flush_interval": 0.01,
        "orphan_interval": 0.2,
        "heartbeat_interval": 0.3,
        "watch_interval": 0.1,
        "postgres_wait": 5.0,
        "create_token_wait": 20.0,
        "plan_token_wait": 20.0,
    }
    spans = {name: datetime.timedelta(seconds=changes.pop(name, seconds)) for name, seconds in short.items()}
    listen = changes.pop("listen", None) or f"127.0.0.1:{free_port()}"
    return TaskManagerSettings(
        listen=listen, postgres_dsn=Secret(dsn), storage_address=storage, trainer_addresses=trainers, **spans, **changes
    )


class Platform:
    """The task manager with its fake peers; the manager can be stopped, killed and started again on the same port."""

    def __init__(self, settings: TaskManagerSettings, trainer: FakeTrainer) -> None:
        self.settings = settings
        self.trainer = trainer
        self.channel = connect(settings.listen)
        self.stub = task_manager_service_pb2_grpc.TaskManagerServiceStub(self.channel)
        self._manager: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Until it answers."""
        self._stop = asyncio.Event()
        ready = asyncio.Event()
        self._manager = asyncio.create_task(_serve(self.settings, ready, self._stop))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({waiting, self._manager}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._manager.done():
            await self._manager

    async def stop(self) -> None:
        """Orderly."""
        if self._manager:
            self._stop.set()
            await self._manager
            self._manager = None

    async def create(self, display_name: str = "a task", **changes: Any) -> task_pb2.Task:
        """A task."""
        return await self.stub.CreateTask(api.CreateTaskRequest(task=a_task(display_name, **changes)), wait_for_ready=True)

    async def get(self, name: str) -> task_pb2.Task:
        """The task as it is."""
        return await self.stub.GetTask(api.GetTaskRequest(name=name), wait_for_ready=True)

    async def until(self, name: str, state: int) -> task_pb2.Task:
        """Until the task is in that state."""

        async def reached() -> task_pb2.Task | None:
            task = await self.get(name)
            return task if task.state == state else None

        return await eventually(reached, f"{name} becomes {task_pb2.Task.State.Name(state)}")

    async def run_of(self, task: task_pb2.Task, attempt: int = 1) -> FakeRun:
        """The run of a task on the trainer."""
        name = f"runs/{task.name.removeprefix('tasks/')}-{attempt}"

        async def started() -> FakeRun | None:
            return self.trainer.runs.get(name)

        return await eventually(started, f"{name} starts")

    async def watch(self, name: str, after: int = 0, **changes: Any) -> list[api.WatchTaskResponse]:
        """The whole stream until its end."""
        request = api.WatchTaskRequest(name=name, after_sequence=after, **changes)
        async with asyncio.timeout(DEADLINE_SECONDS):
            return [message async for message in self.stub.WatchTask(request, wait_for_ready=True)]


async def _serve(settings: TaskManagerSettings, ready: asyncio.Event, stop: asyncio.Event) -> None:
    async with running(settings):
        ready.set()
        await stop.wait()


@contextlib.asynccontextmanager
async def platform_of(settings: TaskManagerSettings, trainer: FakeTrainer) -> AsyncIterator[Platform]:
    """A started platform."""
    platform = Platform(settings, trainer)
    await platform.start()
    try:
        yield platform
    finally:
        await platform.stop()
        await platform.channel.close()


@contextlib.asynccontextmanager
async def manager_process(dsn: str, storage: str, trainer: str, listen: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A task manager as a process of its own, which can be killed."""
    environment = {
        "PATH": os.environ["PATH"],
        "TUNESMITH_POSTGRES_DSN": dsn,
        "TUNESMITH_TASK_MANAGER_LISTEN": listen,
        "TUNESMITH_TASK_MANAGER_STORAGE_ADDRESS": storage,
        "TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES": trainer,
        "TUNESMITH_TASK_MANAGER_LEASE": "2s",
        "TUNESMITH_TASK_MANAGER_LEASE_RENEWAL": "500ms",
        "TUNESMITH_TASK_MANAGER_RETRY_INTERVAL": "100ms",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.task_manager", env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def checked_stream(manager: Platform, name: str) -> list[api.WatchTaskResponse]:
    """The whole stream, after the contract was checked by readers from the beginning, from the middle and at the end."""
    messages, model = await manager.watch(name), StreamModel()
    check_stream(messages)
    model.connection(messages)
    events = events_in(messages)
    check_events(events)
    for after in (len(events) // 2, len(events)):
        model.connection(await manager.watch(name, after), after=after)
    model.check()
    return messages


async def whole_stream(manager: Platform, name: str) -> list[task_event_pb2.TaskEvent]:
    """All events, after the contract was checked."""
    return events_in(await checked_stream(manager, name))


def events_in(messages: Sequence[api.WatchTaskResponse]) -> list[task_event_pb2.TaskEvent]:
    """Of all messages."""
    return [event for message in messages for event in message.events]


async def eventually(condition: Callable[[], Awaitable[T | None]], claim: str) -> T:
    """Polls until the condition gives something."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        if (found := await condition()) is not None:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"did not happen: {claim}")


def a_task(display_name: str = "a task", **hyperparameters: Any) -> task_pb2.Task:
    """A valid ask."""
    task = task_pb2.Task(display_name=display_name, description="d", labels={"team": "a"})
    task.spec.fine_tuning.base_model = BASE_MODEL
    task.spec.fine_tuning.dataset = DATASET
    for name, value in hyperparameters.items():
        setattr(task.spec.fine_tuning.hyperparameters, name, value)
    return task


def reason_and_fields(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """Catalogue reason and violated fields of a failed call."""
    from google.rpc import error_details_pb2

    from services.common import rich_status

    status = rich_status.from_rpc_error(error)
    fields: list[str] = []
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    return rich_status.reason_of(error), fields
