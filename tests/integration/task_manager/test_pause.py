"""Pausing and resuming in every state: the run comes to rest, the next attempt goes on, and cancelling goes before pausing."""

import asyncio

import grpc
import pytest
from integration.task_manager.fake_peers import FakeTrainer
from integration.task_manager.manager_harness import Platform, eventually, reason_and_fields, whole_stream

from services.common.errors import ServiceError
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration

Task = task_pb2.Task


async def pause(manager: Platform, name: str, reason: str = "") -> task_pb2.Task:
    return await manager.stub.PauseTask(api.PauseTaskRequest(name=name, reason=reason))


async def resume(manager: Platform, name: str) -> task_pb2.Task:
    return await manager.stub.ResumeTask(api.ResumeTaskRequest(name=name))


async def cancel(manager: Platform, name: str) -> task_pb2.Task:
    return await manager.stub.CancelTask(api.CancelTaskRequest(name=name))


async def running(manager: Platform) -> tuple[str, object]:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await manager.until(task.name, Task.RUNNING)
    return task.name, run


async def refusal(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    return reason_and_fields(caught.value)[0]


async def test_a_running_task_rests_and_goes_on_as_another_attempt_in_one_stream(manager: Platform, trainer: FakeTrainer) -> None:
    name, run = await running(manager)
    await run.step(1, loss=2.0)

    paused = await pause(manager, name, "the machine is needed")
    assert (paused.state, paused.state_reason) == (Task.PAUSING, "pausing was asked for: the machine is needed")
    rests = await manager.until(name, Task.PAUSED)
    assert not rests.HasField("end_time")
    assert not rests.HasField("error")
    assert trainer.paused[0] == run.run.name

    trainer.script = lambda second: second.succeed()
    assert (await resume(manager, name)).state == Task.QUEUED
    done = await manager.until(name, Task.SUCCEEDED)

    assert done.attempt == 2
    events = await whole_stream(manager, name)
    states = [event.state_change.to_state for event in events if event.HasField("state_change")]
    assert states[states.index(Task.PAUSING) :] == [
        Task.PAUSING,
        Task.PAUSED,
        Task.QUEUED,
        Task.STARTING,
        Task.RUNNING,
        Task.SUCCEEDED,
    ]


async def test_a_starting_task_is_paused_too(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    await manager.run_of(task)
    await pause(manager, task.name)
    await manager.until(task.name, Task.PAUSED)


async def test_a_task_whose_trainer_has_no_room_is_paused_without_a_run(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.refusal = ServiceError("NO_CAPACITY", "full")
    task = await manager.create()
    await manager.until(task.name, Task.STARTING)
    await pause(manager, task.name)
    await manager.until(task.name, Task.PAUSED)
    assert trainer.runs == {}


async def test_asking_again_changes_nothing(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    name, _ = await running(manager)
    first = await pause(manager, name, "first")
    second = await pause(manager, name, "second")
    assert (second.state, second.state_reason) == (Task.PAUSING, first.state_reason)
    trainer.obeys_cancel = True
    await manager.until(name, Task.PAUSED)
    assert (await pause(manager, name)).state == Task.PAUSED
    trainer.total_processes = 0
    assert (await resume(manager, name)).state == Task.QUEUED
    assert (await resume(manager, name)).state == Task.QUEUED


async def test_what_cannot_be_paused_or_resumed_is_refused_by_name(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    queued = await manager.create()
    assert await refusal(pause(manager, queued.name)) == "TASK_NOT_RUNNING"
    await cancel(manager, queued.name)
    assert await refusal(pause(manager, queued.name)) == "TASK_NOT_RUNNING"
    assert await refusal(resume(manager, queued.name)) == "TASK_NOT_PAUSED"


async def test_a_task_that_is_still_pausing_cannot_be_resumed(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    name, _ = await running(manager)
    await pause(manager, name)
    assert await refusal(resume(manager, name)) == "TASK_NOT_PAUSED"


async def test_cancelling_goes_before_pausing(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    name, _ = await running(manager)
    await pause(manager, name)
    assert (await cancel(manager, name)).state == Task.CANCELLING
    assert await refusal(pause(manager, name)) == "TASK_NOT_RUNNING"
    trainer.obeys_cancel = True
    await manager.until(name, Task.CANCELLED)


async def test_pausing_and_cancelling_at_once_always_end_cancelled(manager: Platform, trainer: FakeTrainer) -> None:
    for _ in range(5):
        name, _ = await running(manager)
        await asyncio.gather(pause(manager, name), cancel(manager, name), return_exceptions=True)
        await manager.until(name, Task.CANCELLED)


async def test_a_paused_task_is_cancelled_at_once(manager: Platform, trainer: FakeTrainer) -> None:
    name, _ = await running(manager)
    await pause(manager, name)
    await manager.until(name, Task.PAUSED)
    assert (await cancel(manager, name)).state == Task.CANCELLED


async def test_a_run_that_finishes_before_the_pausing_reaches_it_has_succeeded(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    name, run = await running(manager)
    await pause(manager, name)
    await run.end(Task.SUCCEEDED)
    await manager.until(name, Task.SUCCEEDED)


async def test_a_run_that_is_lost_while_pausing_is_paused(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    name, run = await running(manager)
    await pause(manager, name)
    await run.end(Task.FAILED, "RUN_LOST")
    await manager.until(name, Task.PAUSED)


async def test_a_trainer_is_asked_until_the_run_rests(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    name, _ = await running(manager)
    await pause(manager, name)

    async def asked_twice() -> bool | None:
        return len(trainer.paused) >= 2 or None

    await eventually(asked_twice, "the trainer is asked again")
    trainer.obeys_cancel = True
    await manager.until(name, Task.PAUSED)
