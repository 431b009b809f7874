"""Callers of the API in a troubled world: they ask again until they are answered, and remember what they were told."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from tests.faults.fake_worker import DEAF, DETACHED_CHILD, DIES_ONCE, FAILS, FAILS_ONCE
from tests.faults.verdict import Told
from tests.faults.world import Manager, deadline
from tests.integration.task_manager.manager_harness import a_task
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2

_CALL_SECONDS = 2.0
_PATIENCE_SECONDS = 40.0
_MANNERS = (0, 0, 0, DEAF, DETACHED_CHILD, FAILS, FAILS_ONCE, DIES_ONCE)
# What a caller may get while things break; anything else is an answer.
_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
}


class Callers:
    """`chance` decides whom they ask and what for; what is known to `others` they share.

    `patience`: seconds until a call that nobody answers is a mistake.
    """

    def __init__(
        self,
        managers: Sequence[Manager],
        chance: random.Random,
        others: "Callers | None" = None,
        *,
        patience: float = _PATIENCE_SECONDS,
    ) -> None:
        self._managers = managers
        self._chance = chance
        self._patience = patience
        self.told = others.told if others else Told()
        self.refusals: list[tuple[str, grpc.StatusCode]] = []
        """Answers that are errors."""
        self.names: list[str] = others.names if others else []
        self.manners: dict[str, int] = others.manners if others else {}
        """How the runs of a task behave, by its id."""
        self.calls = 0

    async def create(self, manner: int | None = None, **changes: Any) -> str:
        """A task; the same request is repeated until it is acknowledged."""
        numbers = {"num_processes": self._chance.choice((1, 1, 1, 2, 3)), "max_steps": self._chance.randint(2, 12)} | changes
        numbers["seed"] = self._chance.choice(_MANNERS) if manner is None else manner
        request = api.CreateTaskRequest(task=a_task("chaos", **numbers), request_id=self._request_id())
        task = await self.call("CreateTask", request)
        assert task is not None, self.refusals
        self.told.created[request.request_id] = task.name.removeprefix("tasks/")
        self.manners[task.name.removeprefix("tasks/")] = numbers["seed"]
        self.names.append(task.name)
        return str(task.name)

    def pause_between(self) -> float:
        """Seconds between two calls."""
        return self._chance.uniform(0.0, 0.15)

    async def anything(self) -> None:
        """One of the calls, about one of the tasks."""
        name = self._chance.choice(self.names) if self.names else ""
        kinds: Sequence[tuple[int, Callable[[str], Awaitable[object]]]] = (
            (6, self._create_one),
            (3, self.cancel),
            (2, self.pause),
            (3, self.resume),
            (2, self.retry),
            (1, self.delete),
            (3, self.get),
        )
        if not name:
            await self.create()
            return
        weights = [weight for weight, _ in kinds]
        await self._chance.choices([act for _, act in kinds], weights)[0](name)

    async def _create_one(self, _: str) -> None:
        await self.create()

    async def cancel(self, name: str) -> None:
        """Remembers what it was told."""
        task = await self.call("CancelTask", api.CancelTaskRequest(name=name))
        if task is not None and task.state in (task_pb2.Task.CANCELLING, task_pb2.Task.CANCELLED):
            self.told.cancelled.add(name.removeprefix("tasks/"))

    async def pause(self, name: str) -> None:
        """May be refused."""
        await self.call("PauseTask", api.PauseTaskRequest(name=name))

    async def resume(self, name: str) -> None:
        """May be refused."""
        await self.call("ResumeTask", api.ResumeTaskRequest(name=name))

    async def retry(self, name: str) -> None:
        """May be refused."""
        await self.call("RetryTask", api.RetryTaskRequest(name=name, request_id=self._request_id()))

    async def delete(self, name: str) -> None:
        """May be refused; a refusal for good means that nothing was deleted."""
        self.told.deleted.add(name.removeprefix("tasks/"))
        refused = len(self.refusals)
        await self.call("DeleteTask", api.DeleteTaskRequest(name=name))
        if any(code == grpc.StatusCode.FAILED_PRECONDITION for _, code in self.refusals[refused:]):
            self.told.deleted.discard(name.removeprefix("tasks/"))
        else:
            self.names.remove(name)

    async def get(self, name: str) -> task_pb2.Task | None:
        """The task."""
        return await self.call("GetTask", api.GetTaskRequest(name=name))  # type: ignore[no-any-return]

    async def rest(self, seconds: float) -> None:
        """Until nothing moves any more, paused tasks are resumed; or until it has taken too long, which the verdict tells."""
        until = deadline(seconds)
        while deadline(0) < until:
            states = {name: (await self.get(name)) for name in self.names}
            for name, task in states.items():
                if task is not None and task.state == task_pb2.Task.PAUSED:
                    await self.resume(name)
            left = [task for task in states.values() if task is not None and not _is_terminal(task.state)]
            if not left:
                return
            await asyncio.sleep(0.1)

    def _request_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    async def call(self, method: str, request: Any) -> Any:
        """The answer, or None for a refusal; asks one task manager after the other until somebody answers."""
        until = deadline(self._patience)
        while True:
            manager: Manager = self._chance.choice(self._managers)
            try:
                self.calls += 1
                return await getattr(manager.stub, method)(request, timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _AGAIN:
                    self.refusals.append((method, error.code()))
                    return None
                if deadline(0) > until:
                    raise AssertionError(f"nobody answers {method}: {error.details()}") from error
                await asyncio.sleep(0.05)


def _is_terminal(state: int) -> bool:
    return state in (task_pb2.Task.SUCCEEDED, task_pb2.Task.FAILED, task_pb2.Task.CANCELLED)
