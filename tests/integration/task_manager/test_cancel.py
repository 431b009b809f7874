"""Cancelling in every state: the wish is recorded, the loop works towards it, the first commit wins."""

import asyncio

import grpc
import pytest
from integration.task_manager.fake_peers import FakeTrainer
from integration.task_manager.manager_harness import Platform, checked_stream, eventually, reason_and_fields

from services.common.errors import ServiceError
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration


async def cancel(manager: Platform, name: str, reason: str = "") -> task_pb2.Task:
    return await manager.stub.CancelTask(api.CancelTaskRequest(name=name, reason=reason))


async def ended(manager: Platform, name: str) -> api.WatchTaskResponse:
    """The end of the task's stream, after the whole stream was checked."""
    return (await checked_stream(manager, name))[-1]


async def test_a_queued_task_is_cancelled_at_once(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    task = await manager.create()

    cancelled = await cancel(manager, task.name, "wrong data")

    assert cancelled.state == task_pb2.Task.CANCELLED
    assert cancelled.state_reason == "cancelling was asked for: wrong data"
    assert cancelled.HasField("end_time")
    assert (await ended(manager, task.name)).end.state == task_pb2.Task.CANCELLED
    assert trainer.runs == {}


async def test_a_task_whose_trainer_has_no_room_after_all_is_cancelled_without_a_run(
    manager: Platform, trainer: FakeTrainer
) -> None:
    trainer.refusal = ServiceError("NO_CAPACITY", "full")
    trainer.answers_starts.clear()
    task = await manager.create()
    await manager.until(task.name, task_pb2.Task.STARTING)

    assert (await cancel(manager, task.name)).state == task_pb2.Task.CANCELLING
    trainer.answers_starts.set()

    await manager.until(task.name, task_pb2.Task.CANCELLED)
    await ended(manager, task.name)


async def test_a_starting_run_is_ended_on_its_trainer(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)

    await cancel(manager, task.name)

    await manager.until(task.name, task_pb2.Task.CANCELLED)
    await ended(manager, task.name)
    assert run.run.name in trainer.cancelled


async def test_a_running_run_is_asked_until_it_ends(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await manager.until(task.name, task_pb2.Task.RUNNING)

    assert (await cancel(manager, task.name)).state == task_pb2.Task.CANCELLING

    async def asked_twice() -> bool | None:
        return len(trainer.cancelled) >= 2 or None

    await eventually(asked_twice, "the trainer is asked again")
    await run.line("still here")
    trainer.obeys_cancel = True
    end = await ended(manager, task.name)
    assert end.end.state == task_pb2.Task.CANCELLED


async def test_cancelling_again_changes_nothing(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    task = await manager.create()
    await manager.run_of(task)
    first = await cancel(manager, task.name, "first")

    second = await cancel(manager, task.name, "second")

    assert (second.state, second.state_reason) == (task_pb2.Task.CANCELLING, first.state_reason)
    trainer.obeys_cancel = True
    await manager.until(task.name, task_pb2.Task.CANCELLED)
    third = await cancel(manager, task.name, "third")
    assert third.state == task_pb2.Task.CANCELLED


async def test_a_run_that_finishes_before_the_cancelling_reaches_it_has_succeeded(
    manager: Platform, trainer: FakeTrainer
) -> None:
    trainer.obeys_cancel = False
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await manager.until(task.name, task_pb2.Task.RUNNING)
    await cancel(manager, task.name)

    await run.end(task_pb2.Task.SUCCEEDED)

    end = await ended(manager, task.name)
    assert end.end.state == task_pb2.Task.SUCCEEDED


async def test_a_crash_while_cancelling_ends_cancelled_and_is_never_queued_again(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await manager.until(task.name, task_pb2.Task.RUNNING)
    await cancel(manager, task.name)

    await run.end(task_pb2.Task.FAILED, "TRAINING_PROCESS_KILLED")

    assert (await ended(manager, task.name)).end.state == task_pb2.Task.CANCELLED
    assert (await manager.get(task.name)).attempt == 1


async def test_a_run_lost_while_cancelling_ends_cancelled(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await manager.until(task.name, task_pb2.Task.RUNNING)
    await cancel(manager, task.name)

    await trainer.stop()
    trainer.runs.clear()
    await trainer.start()

    assert (await ended(manager, task.name)).end.state == task_pb2.Task.CANCELLED
    assert trainer.runs == {}


async def test_a_cancel_reaches_a_trainer_that_was_away(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await manager.until(task.name, task_pb2.Task.RUNNING)
    await trainer.stop()

    assert (await cancel(manager, task.name)).state == task_pb2.Task.CANCELLING
    await trainer.start()

    assert (await ended(manager, task.name)).end.state == task_pb2.Task.CANCELLED


async def test_cancel_survives_a_restart_of_the_task_manager(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.obeys_cancel = False
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await manager.until(task.name, task_pb2.Task.RUNNING)
    await cancel(manager, task.name)
    await manager.stop()

    trainer.obeys_cancel = True
    await manager.start()

    assert (await ended(manager, task.name)).end.state == task_pb2.Task.CANCELLED


async def test_cancel_races_with_the_end_and_both_outcomes_are_whole(manager: Platform, trainer: FakeTrainer) -> None:
    for _ in range(10):
        task = await manager.create()
        run = await manager.run_of(task)
        await run.start_training()

        await asyncio.gather(cancel(manager, task.name), run.end(task_pb2.Task.SUCCEEDED))

        end = await ended(manager, task.name)
        assert end.end.state in (task_pb2.Task.SUCCEEDED, task_pb2.Task.CANCELLED)


async def test_a_reason_that_is_too_long_is_refused(manager: Platform) -> None:
    task = await manager.create()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await cancel(manager, task.name, "x" * 501)

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason_and_fields(caught.value) == ("INVALID_FIELD", ["reason"])
