"""The API against a model of it: any order of calls, on a real task manager with a real Postgres.

The trainer's runs do nothing by themselves; the machine decides when one trains, succeeds or fails. What is then allowed is
known: the model says for every call whether it is taken and what the task becomes.
"""

import asyncio
import contextlib
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine
from typing import Any, ClassVar

import grpc
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, precondition, rule, run_state_machine_as_test

from services.common.rich_status import reason_of
from services.task_manager.domain import retry, transitions
from services.task_manager.repository import TaskRepository
from tests.faults.planted import Patch, requests_are_not_remembered
from tests.integration.task_manager.fake_peers import TERMINAL, FakeStorage, FakeTrainer, serving_storage
from tests.integration.task_manager.manager_harness import Platform, a_task, eventually, make_settings, platform_of, whole_stream
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration
Task = task_pb2.Task
ENDED_BADLY = (Task.FAILED, Task.CANCELLED)


class Background:
    """A loop in a thread of its own, so that Hypothesis, which does not wait, may drive what does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result; raises what it raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        """Ends the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.asynccontextmanager
async def platform(dsn: str) -> AsyncIterator[tuple[Platform, FakeTrainer]]:
    """A task manager whose trainer has room for everything."""
    trainer = FakeTrainer(total_processes=10_000)
    await trainer.start()
    async with contextlib.AsyncExitStack() as stack:
        storage = await stack.enter_async_context(serving_storage(FakeStorage()))
        settings = make_settings(dsn, storage, (trainer.address,))
        yield await stack.enter_async_context(platform_of(settings, trainer)), trainer
    await trainer.close()


class ApiMachine(RuleBasedStateMachine):
    """`model` says of each task what it must be; a task that starts or ends is waited for before the next call."""

    background: ClassVar[Background]
    manager: ClassVar[Platform]
    trainer: ClassVar[FakeTrainer]
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, int] = {}
        self.attempts: dict[str, int] = {}
        self.requests: dict[str, str] = {}
        # Machines share a database, and an address in memory may be used again.
        self.namespace = uuid.uuid4()

    # ---- calls

    @rule(target=tasks, request=st.sampled_from(["a", "b"]))
    def create(self, request: str) -> Any:
        """A request that is known returns its task, whatever has become of it."""
        identifier = str(uuid.uuid5(self.namespace, request))
        task = self._call("CreateTask", api.CreateTaskRequest(task=a_task(request), request_id=identifier))
        if request in self.requests:
            assert task.name == self.requests[request]
            return multiple()
        self.requests[request] = task.name
        self.model[task.name], self.attempts[task.name] = Task.STARTING, 1
        self._settle(task.name)
        return task.name

    @rule(name=tasks)
    def cancel(self, name: str) -> None:
        """Always taken; what has ended stays as it is."""
        if self._exists(name, "CancelTask", api.CancelTaskRequest(name=name)) and self.model[name] not in TERMINAL:
            self.model[name] = Task.CANCELLED
            self._settle(name)

    @rule(name=tasks)
    def pause(self, name: str) -> None:
        """Taken from what runs, and from what rests already."""
        state = self.model.get(name)
        takes = state in (Task.STARTING, Task.RUNNING, Task.PAUSED)
        if self._exists(name, "PauseTask", api.PauseTaskRequest(name=name), "" if takes else "TASK_NOT_RUNNING") and takes:
            self.model[name] = Task.PAUSED
            self._settle(name)

    @rule(name=tasks)
    def resume(self, name: str) -> None:
        """Taken from what rests, and from what goes on already."""
        state = self.model.get(name)
        takes = state in (Task.PAUSED, Task.STARTING, Task.RUNNING)
        if self._exists(name, "ResumeTask", api.ResumeTaskRequest(name=name), "" if takes else "TASK_NOT_PAUSED"):
            self._begin(name, state == Task.PAUSED)

    @rule(name=tasks)
    def retry(self, name: str) -> None:
        """Taken from what has ended badly."""
        state = self.model.get(name)
        takes = state in ENDED_BADLY
        request = api.RetryTaskRequest(name=name, request_id=str(uuid.uuid4()))
        if self._exists(name, "RetryTask", request, "" if takes else "TASK_NOT_ENDED_BADLY"):
            self._begin(name, takes)

    @rule(name=tasks)
    def delete(self, name: str) -> None:
        """Taken from what has ended; it is gone then."""
        takes = self.model.get(name) in TERMINAL
        if self._exists(name, "DeleteTask", api.DeleteTaskRequest(name=name), "" if takes else "TASK_NOT_TERMINAL") and takes:
            del self.model[name]
            self.requests = {request: task for request, task in self.requests.items() if task != name}

    @rule(name=tasks)
    def read_it_all(self, name: str) -> None:
        """What has ended has a stream that keeps the contract; what was deleted has none."""
        if self.model.get(name) in TERMINAL:
            events = self.background.run(whole_stream(self.manager, name))
            assert events[-1].state_change.to_state == self.model[name]

    # ---- what runs do

    @rule(name=tasks)
    def train(self, name: str) -> None:
        """The training loop begins."""
        if self.model.get(name) == Task.STARTING:
            self.background.run(self.trainer.runs[self._run(name)].start_training())
            self.model[name] = Task.RUNNING
            self._settle(name)

    @rule(name=tasks, state=st.sampled_from([Task.SUCCEEDED, Task.FAILED]))
    def end(self, name: str, state: int) -> None:
        """The run ends."""
        if self.model.get(name) in (Task.STARTING, Task.RUNNING):
            self.background.run(self.trainer.runs[self._run(name)].end(state))
            self.model[name] = state
            self._settle(name)

    # ---- what always holds

    @invariant()
    @precondition(lambda self: self.model)
    def every_task_is_as_the_model_says(self) -> None:
        """Read one by one; nothing changes by itself."""
        for name, state in self.model.items():
            task = self._call("GetTask", api.GetTaskRequest(name=name))
            assert Task.State.Name(task.state) == Task.State.Name(state), name
            assert task.attempt == self.attempts[name]

    def _begin(self, name: str, anew: bool) -> None:
        if anew:
            self.model[name] = Task.STARTING
            self.attempts[name] += 1
            self._settle(name)

    def _run(self, name: str) -> str:
        return f"runs/{name.removeprefix('tasks/')}-{self.attempts[name]}"

    def _exists(self, name: str, method: str, request: Any, refusal: str = "") -> bool:
        """Whether the call was taken; it is refused as expected otherwise."""
        refusal = "TASK_NOT_FOUND" if name not in self.model else refusal
        try:
            self._call(method, request)
            reason = ""
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
        assert reason == refusal, f"{method} was answered {reason or 'OK'}, expected was {refusal or 'OK'}"
        return not reason

    def _settle(self, name: str) -> None:
        """Until the task is what it must become, and its run is there."""

        async def is_there() -> bool | None:
            task = await self.manager.get(name)
            has_run = self.model[name] != Task.STARTING or self._run(name) in self.trainer.runs
            return (task.state == self.model[name] and task.attempt == self.attempts[name] and has_run) or None

        self.background.run(eventually(is_there, f"{name} becomes {Task.State.Name(self.model[name])}"))

    def _call(self, method: str, request: Any) -> Any:
        async def call() -> Any:
            return await getattr(self.manager.stub, method)(request, timeout=30)

        return self.background.run(call())


def play(postgres_dsn: str, **chosen: Any) -> None:
    """Plays orders of calls; raises AssertionError when an answer is not what the model says."""
    background = Background()
    running = platform(postgres_dsn)
    ApiMachine.background = background
    ApiMachine.manager, ApiMachine.trainer = background.run(running.__aenter__())
    try:
        run_state_machine_as_test(
            ApiMachine,
            settings=hypothesis_settings(
                stateful_step_count=25,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
                **chosen,
            ),
        )
    finally:
        background.run(running.__aexit__(None, None, None))
        background.close()


def test_any_order_of_calls_is_answered_as_the_model_says(postgres_dsn: str) -> None:
    play(postgres_dsn, max_examples=10)


# ---- mistakes in the task manager that show in answers; the moves of tasks have their own in `planted`


def pause_takes_everything(patch: Patch) -> None:
    """Pausing what has ended is acknowledged."""
    rule_of_pause = transitions.after_pause
    patch(transitions, "after_pause", lambda state: state if state.is_terminal else rule_of_pause(state))


def resume_takes_everything(patch: Patch) -> None:
    """Resuming what has ended is acknowledged."""
    rule_of_resume = transitions.after_resume
    patch(transitions, "after_resume", lambda state: state if state.is_terminal else rule_of_resume(state))


def delete_is_forgotten(patch: Patch) -> None:
    """Deleting is acknowledged, whatever the task's state, and does nothing."""

    async def delete(self: TaskRepository, task_id: uuid.UUID) -> None:
        return None

    patch(TaskRepository, "delete", delete)


def retry_takes_success(patch: Patch) -> None:
    """What has succeeded may be tried again, as far as the rule goes."""
    patch(retry, "check_state", lambda state: None)


# Named with what the machine says of each, so that none counts as caught for another reason.
MISTAKES = {
    "requests_are_not_remembered": (requests_are_not_remembered, "tasks/"),
    "pause_takes_everything": (pause_takes_everything, "PauseTask was answered OK, expected was TASK_NOT_RUNNING"),
    "resume_takes_everything": (resume_takes_everything, "ResumeTask was answered OK, expected was TASK_NOT_PAUSED"),
    "delete_is_forgotten": (delete_is_forgotten, "DeleteTask was answered OK, expected was TASK_NOT_"),
    "retry_takes_success": (retry_takes_success, "RetryTask was answered .*, expected was TASK_NOT_ENDED_BADLY"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_caught(postgres_dsn: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, said = MISTAKES[name]
    plant(monkeypatch.setattr)
    with pytest.raises(AssertionError, match=said):
        play(postgres_dsn, max_examples=30, derandomize=True)
