"""Tasks from creation to their end, over real gRPC and real Postgres."""

import pytest
from integration.task_manager.fake_peers import ARTIFACT, FakeRun, FakeTrainer
from integration.task_manager.manager_harness import Platform
from stream_contract import check_events, check_stream

from tunesmith.v1 import task_event_pb2, task_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

pytestmark = pytest.mark.integration


async def test_a_task_runs_to_success_and_the_stream_tells_all_of_it(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.script = FakeRun.succeed

    task = await manager.create()
    messages = await manager.watch(task.name)

    check_stream(messages)
    events = [event for message in messages for event in message.events]
    check_events(events)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds.count("step_metrics") == 5
    assert [event.state_change.to_state for event in events if event.HasField("state_change")] == [
        task_pb2.Task.QUEUED,
        task_pb2.Task.STARTING,
        task_pb2.Task.RUNNING,
        task_pb2.Task.SUCCEEDED,
    ]
    assert kinds.index("training_started") == kinds.index("log_entry") + 2, "RUNNING stands right before the training starts"
    assert messages[-1].end.artifact == ARTIFACT

    done = await manager.get(task.name)
    assert (done.state, done.artifact, done.attempt, done.epoch) == (task_pb2.Task.SUCCEEDED, ARTIFACT, 1, 1)
    assert done.head_sequence == len(events)
    assert (done.progress.step, done.progress.total_steps) == (5, 5)
    assert done.progress.metrics["loss"] == pytest.approx(0.4)
    assert done.create_time.ToDatetime() <= done.start_time.ToDatetime() <= done.end_time.ToDatetime()


async def test_a_run_that_fails_leaves_its_error_in_the_task(manager: Platform) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await run.end(task_pb2.Task.FAILED, "OUT_OF_MEMORY")

    failed = await manager.until(task.name, task_pb2.Task.FAILED)

    assert failed.error.reason == "OUT_OF_MEMORY"
    messages = await manager.watch(task.name)
    check_stream(messages)
    assert messages[-1].end.error.reason == "OUT_OF_MEMORY"
    assert messages[-2].events[-1].state_change.error.reason == "OUT_OF_MEMORY"


async def test_the_runner_gets_spec_epoch_and_resolved_numbers(manager: Platform) -> None:
    task = await manager.create(learning_rate=0.01)

    run = (await manager.run_of(task)).run

    assert run.task == task.name
    assert (run.attempt, run.epoch) == (1, 1)
    assert run.spec == task.spec
    assert run.hyperparameters == task.effective_hyperparameters
    assert run.hyperparameters.learning_rate == 0.01
    assert run.hyperparameters.max_steps == 21
    assert run.hyperparameters.max_seq_length == 512


async def test_a_run_telling_of_its_own_states_does_not_disturb_the_tasks(manager: Platform) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await run.emit(state_change=task_event_pb2.StateChange(to_state=task_pb2.Task.RUNNING, reason="own"))
    await run.step(1)
    await run.end(task_pb2.Task.SUCCEEDED)

    messages = await manager.watch(task.name)

    check_stream(messages)
    check_events([event for message in messages for event in message.events])


async def test_more_tasks_than_room_wait_and_all_succeed_in_order(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.script = FakeRun.succeed
    trainer.total_processes = 1

    tasks = [await manager.create(f"task {number}") for number in range(5)]
    for task in tasks:
        await manager.until(task.name, task_pb2.Task.SUCCEEDED)

    assert [run.run.task for run in trainer.runs.values()] == [task.name for task in tasks]


async def test_a_task_too_large_for_every_trainer_says_so_and_does_not_block_others(
    manager: Platform, trainer: FakeTrainer
) -> None:
    trainer.script = FakeRun.succeed

    large = await manager.create(num_processes=8)
    small = await manager.create()
    await manager.until(small.name, task_pb2.Task.SUCCEEDED)

    waiting = await manager.get(large.name)
    assert waiting.state == task_pb2.Task.QUEUED
    assert waiting.state_reason == "needs 8 processes; the largest trainer has 4"


async def test_a_deleted_task_is_gone_with_its_events(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.script = FakeRun.succeed
    task = await manager.create()
    await manager.until(task.name, task_pb2.Task.SUCCEEDED)

    moves = (await manager.get(task.name)).transitions
    assert [task_pb2.TaskTransition.Actor.Name(move.actor) for move in moves] == ["CALLER", "TASK_MANAGER", "TRAINER", "TRAINER"]
    assert [move.to_state for move in moves][-1] == task_pb2.Task.SUCCEEDED
    await manager.stub.DeleteTask(api.DeleteTaskRequest(name=task.name))
    await manager.stub.DeleteTask(api.DeleteTaskRequest(name=task.name, allow_missing=True))

    assert list((await manager.stub.ListTasks(api.ListTasksRequest())).tasks) == []


async def test_two_tasks_are_compared_down_to_the_hashes_of_their_data(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.script = FakeRun.succeed
    first, second = await manager.create(learning_rate=0.01), await manager.create(learning_rate=0.02)
    for task in (first, second):
        await manager.until(task.name, task_pb2.Task.SUCCEEDED)

    response = await manager.stub.DiffTasks(api.DiffTasksRequest(first=first.name, second=second.name))

    assert ("learning_rate", "0.01", "0.02") in [(each.field, each.first, each.second) for each in response.differences]
    assert not response.unknown_sections, "both manifests were read"
