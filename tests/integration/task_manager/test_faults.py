"""Broken streams, lost runs, trainers and task managers that go away: nothing is lost, nothing doubled."""

import asyncio
import datetime
import os
import signal
import sys

import grpc
import pytest
from integration.task_manager.fake_peers import FakeRun, FakeTrainer
from integration.task_manager.manager_harness import (
    Platform,
    eventually,
    make_settings,
    manager_process,
    platform_of,
    whole_stream,
)
from stream_contract import check_events, check_stream
from stream_model import StreamModel

from services.common.errors import ServiceError
from tunesmith.v1 import task_event_pb2, task_pb2, trainer_service_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

pytestmark = pytest.mark.integration


def steps_of(events: list[task_event_pb2.TaskEvent]) -> list[int]:
    return [event.step_metrics.step for event in events if event.HasField("step_metrics")]


async def test_a_stream_that_breaks_again_and_again_loses_and_doubles_nothing(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.break_stream_after = 3
    trainer.script = lambda run: run.succeed(20)

    task = await manager.create()

    assert steps_of(await whole_stream(manager, task.name)) == list(range(1, 21))
    assert (await manager.get(task.name)).attempt == 1


async def test_a_trainer_that_was_away_is_waited_for_and_never_replaced(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await run.step(1)
    await manager.until(task.name, task_pb2.Task.RUNNING)
    await trainer.stop()

    async def explained() -> str | None:
        reason = (await manager.get(task.name)).state_reason
        return reason if "does not answer" in reason else None

    assert trainer.address in await eventually(explained, "the task says what it waits for")
    await run.step(2)
    await trainer.start()
    await run.end(task_pb2.Task.SUCCEEDED)

    assert steps_of(await whole_stream(manager, task.name)) == [1, 2]
    assert list(trainer.runs) == [run.run.name]


async def test_a_lost_run_becomes_a_new_attempt_that_continues_the_numbering(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await run.step(1)
    await manager.until(task.name, task_pb2.Task.RUNNING)
    await trainer.stop()
    trainer.runs.clear()
    trainer.script = FakeRun.succeed
    await trainer.start()

    events = await whole_stream(manager, task.name)

    assert steps_of(events) == [1, 1, 2, 3, 4, 5]
    assert {event.attempt for event in events} == {0, 1, 2}
    done = await manager.get(task.name)
    assert (done.state, done.attempt, done.epoch) == (task_pb2.Task.SUCCEEDED, 2, 2)


async def test_a_task_fails_when_its_runs_are_lost_too_often(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()

    async def failed_by_forgetting() -> bool | None:
        if trainer.runs:
            await trainer.stop()
            trainer.runs.clear()
            await trainer.start()
        return (await manager.get(task.name)).state == task_pb2.Task.FAILED or None

    await eventually(failed_by_forgetting, "the task fails")
    failed = await manager.get(task.name)
    assert (failed.error.reason, failed.attempt) == ("RUN_LOST", 3)
    await whole_stream(manager, task.name)


async def test_a_trainer_with_a_shorter_journal_than_the_store_has_lost_the_run(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await run.step(1)
    await run.step(2)

    async def stored() -> bool | None:
        return (await manager.get(task.name)).progress.step == 2 or None

    await eventually(stored, "step 2 is stored")
    trainer.script = FakeRun.succeed
    await trainer.stop()
    del run.events[1:]
    await trainer.start()

    assert steps_of(await whole_stream(manager, task.name)) == [1, 2, 1, 2, 3, 4, 5]
    assert run.run.name in trainer.cancelled, "the run of another history must not go on"


async def test_a_run_the_trainer_never_accepts_goes_back_to_the_queue(
    postgres_dsn: str, storage_address: str, trainer: FakeTrainer
) -> None:
    settings = make_settings(postgres_dsn, storage_address, (trainer.address,), start_timeout=datetime.timedelta(0))
    trainer.refusal = ServiceError("NO_CAPACITY", "full")
    async with platform_of(settings, trainer) as manager:
        task = await manager.create()

        async def second_attempt() -> bool | None:
            return (await manager.get(task.name)).attempt >= 2 or None

        await eventually(second_attempt, "the task is claimed again")
        trainer.refusal = None
        trainer.script = FakeRun.succeed
        await whole_stream(manager, task.name)


async def test_a_run_the_trainer_will_never_take_fails_with_its_reason(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.refusal = ServiceError("TOO_MANY_PROCESSES", "has 1 process")
    task = await manager.create()

    failed = await manager.until(task.name, task_pb2.Task.FAILED)

    assert (failed.error.reason, failed.error.message) == ("TOO_MANY_PROCESSES", "has 1 process")


async def test_queued_tasks_say_that_no_trainer_answers(manager: Platform, trainer: FakeTrainer) -> None:
    await trainer.stop()
    task = await manager.create()

    async def explained() -> str | None:
        reason = (await manager.get(task.name)).state_reason
        return reason if "does not answer" in reason else None

    assert await eventually(explained, "says so") == f"waits for a trainer: {trainer.address} does not answer"


async def test_a_task_goes_to_the_trainer_that_answers(postgres_dsn: str, storage_address: str, trainer: FakeTrainer) -> None:
    trainer.script = FakeRun.succeed
    async with platform_of(make_settings(postgres_dsn, storage_address, ("127.0.0.1:1", trainer.address)), trainer) as manager:
        task = await manager.create()

        await whole_stream(manager, task.name)


async def test_a_run_no_task_wants_is_ended(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    task = await manager.create()
    await manager.stub.CancelTask(api.CancelTaskRequest(name=task.name))
    identifier = task.name.removeprefix("tasks/")
    orphan, foreign = f"runs/{identifier}-1", "runs/44444444-4444-4444-8444-444444444444-1"
    for name, owner in ((orphan, task.name), (foreign, "tasks/44444444-4444-4444-8444-444444444444")):
        trainer.runs[name] = FakeRun(trainer_service_pb2.Run(name=name, task=owner, state=task_pb2.Task.RUNNING))

    async def asked() -> bool | None:
        return orphan in trainer.cancelled or None

    await eventually(asked, "the orphan is ended")
    assert foreign not in trainer.cancelled, "a run of a task that is not ours may belong to another database"


async def test_a_restarted_task_manager_goes_on_where_it_stopped(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    await run.start_training()
    await run.step(1)
    await manager.until(task.name, task_pb2.Task.RUNNING)

    await manager.stop()
    await run.step(2)
    await manager.start()
    await run.step(3)
    await run.end(task_pb2.Task.SUCCEEDED)

    assert steps_of(await whole_stream(manager, task.name)) == [1, 2, 3]
    done = await manager.get(task.name)
    assert (done.attempt, done.epoch) == (1, 1), "the run goes on, it is not a new attempt"


async def test_a_stop_ends_whatever_is_in_flight(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.script = FakeRun.succeed
    names = []

    for _ in range(12):
        names.append((await manager.create()).name)
        async with asyncio.timeout(20):
            await manager.stop()
        await manager.start()

    for name in names:
        await whole_stream(manager, name)
        assert (await manager.get(name)).attempt == 1


async def test_a_reader_that_resumes_by_cursor_over_restarts_misses_nothing(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)

    async def train() -> None:
        await run.start_training(60)
        for number in range(1, 61):
            await run.step(number)
            await asyncio.sleep(0.01)
        await run.end(task_pb2.Task.SUCCEEDED)

    async def restart() -> None:
        for _ in range(2):
            await asyncio.sleep(0.1)
            await manager.stop()
            await manager.start()

    reader = asyncio.create_task(resuming_reader(manager, task.name))
    await asyncio.gather(train(), restart())
    events = await reader

    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert steps_of(events) == list(range(1, 61))
    check_events(events)


async def resuming_reader(manager: Platform, name: str) -> list[task_event_pb2.TaskEvent]:
    """Reads as a client should: a stream without an end message is resumed with the cursor."""
    events: list[task_event_pb2.TaskEvent] = []
    model = StreamModel()
    async with asyncio.timeout(60):
        while True:
            messages, cursor = [], events[-1].sequence if events else 0
            try:
                request = api.WatchTaskRequest(name=name, after_sequence=cursor)
                async for message in manager.stub.WatchTask(request, wait_for_ready=True):
                    messages.append(message)
                    events.extend(message.events)
            except grpc.aio.AioRpcError as error:
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                if messages:
                    check_stream(messages, after=cursor, complete=False)
                    model.connection(messages, after=cursor, complete=False)
                continue
            check_stream(messages, after=cursor)
            model.connection(messages, after=cursor)
            model.check()
            return events


async def test_a_killed_task_manager_is_succeeded_by_another_one(
    postgres_dsn: str, storage_address: str, trainer: FakeTrainer
) -> None:
    settings = make_settings(postgres_dsn, storage_address, (trainer.address,))
    manager = Platform(settings, trainer)
    async with manager_process(postgres_dsn, storage_address, trainer.address, settings.listen) as process:
        task = await manager.create()
        run = await manager.run_of(task)
        await run.start_training()
        await run.step(1)
        await manager.until(task.name, task_pb2.Task.RUNNING)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    await run.step(2)
    await manager.channel.close()

    async with platform_of(make_settings(postgres_dsn, storage_address, (trainer.address,)), trainer) as successor:
        await run.step(3)
        await run.end(task_pb2.Task.SUCCEEDED)

        assert steps_of(await whole_stream(successor, task.name)) == [1, 2, 3]
        assert (await successor.get(task.name)).attempt == 1


async def test_a_paused_task_manager_that_wakes_up_after_its_lease_writes_nothing(
    postgres_dsn: str, storage_address: str, trainer: FakeTrainer
) -> None:
    settings = make_settings(postgres_dsn, storage_address, (trainer.address,))
    old = Platform(settings, trainer)
    async with manager_process(postgres_dsn, storage_address, trainer.address, settings.listen) as process:
        task = await old.create()
        run = await old.run_of(task)
        await run.start_training()
        await run.step(1)
        await old.until(task.name, task_pb2.Task.RUNNING)
        process.send_signal(signal.SIGSTOP)
        async with platform_of(make_settings(postgres_dsn, storage_address, (trainer.address,)), trainer) as new:
            for number in range(2, 12):
                await run.step(number)

            async def adopted() -> bool | None:
                return (await new.get(task.name)).progress.step == 11 or None

            await eventually(adopted, "the successor stores what comes")
            process.send_signal(signal.SIGCONT)
            for number in range(12, 30):
                await run.step(number)
                await asyncio.sleep(0.01)
            await run.end(task_pb2.Task.SUCCEEDED)

            assert steps_of(await whole_stream(new, task.name)) == list(range(1, 30))
            assert (await new.get(task.name)).attempt == 1
    await old.channel.close()


async def test_a_missing_setting_is_one_clear_line_and_exit_code_2() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.task_manager", env={"PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE
    )

    _, error = await asyncio.wait_for(process.communicate(), 30)

    assert process.returncode == 2
    assert error.decode().startswith("error: TUNESMITH_")
    assert len(error.splitlines()) == 1


async def test_sigterm_ends_the_process_in_order(empty_dsn: str, storage_address: str, trainer: FakeTrainer) -> None:
    settings = make_settings(empty_dsn, storage_address, (trainer.address,))
    manager = Platform(settings, trainer)
    async with manager_process(empty_dsn, storage_address, trainer.address, settings.listen) as process:
        task = await manager.create()
        await manager.run_of(task)

        process.terminate()

        assert await asyncio.wait_for(process.wait(), 20) == 0
    await manager.channel.close()
