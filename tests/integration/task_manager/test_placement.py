"""Labels and memory in the database: what is looked at, what is claimed, and what callers are told."""

import asyncio
import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import Mapping

import grpc
import pytest
from integration.task_manager.fake_peers import FakeTrainer
from integration.task_manager.manager_harness import Platform, a_task, eventually, make_settings, platform_of
from integration.task_manager.test_projects import queue
from integration.task_manager.test_repositories import Owner, a_new_task

from services.common.postgres import Pool
from services.task_manager.domain import attempt
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.task import Change, NewTask, Retry, State
from services.task_manager.hub import Hub
from services.task_manager.retry_repository import RetryRepository
from services.task_manager.task_queue import TaskQueue
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2, task_spec_pb2

pytestmark = pytest.mark.integration

ZONE, FAST = {"zone": "a"}, {"disk": "fast"}
PLAIN, IN_ZONE = Machine("t:1", 4, 4), Machine("t:2", 4, 4, ZONE | FAST)


def asking(labels: Mapping[str, str] | None = None, memory: int = 0, processes: int = 1) -> NewTask:
    return dataclasses.replace(a_new_task(processes=processes), runner_labels=labels or {}, memory_bytes=memory)


async def seen(tasks: TaskQueue, *machines: Machine, limit: int = 100) -> list[uuid.UUID]:
    return [task.id for task in (await tasks.look(machines, limit=limit)).waiting]


async def test_what_is_asked_for_is_kept_and_only_what_somebody_could_take_is_looked_at(pool: Pool) -> None:
    owner = Owner(pool)
    asks = [asking(), asking(ZONE), asking(ZONE | FAST), asking({"zone": "b"}), asking(memory=900), asking(processes=5)]
    anywhere, zone, both, other, hungry, large = [(await owner.tasks.create(ask)).id for ask in asks]

    assert await seen(owner.queue, PLAIN) == [anywhere, hungry]
    assert await seen(owner.queue, IN_ZONE) == [anywhere, zone, both, hungry]
    assert await seen(owner.queue, PLAIN, Machine("t:2", 4, 4, {"zone": "b"})) == [anywhere, other, hungry]
    assert await seen(owner.queue, Machine("t:1", 4, 0, {}, 899, 0)) == [anywhere], "it is full, but that will not last"
    assert await seen(owner.queue, Machine("t:1", 8, 8, {}, 900, 900), IN_ZONE) == [anywhere, zone, both, hungry, large]
    assert await seen(owner.queue) == []
    (task,) = [one for one in (await owner.queue.look([IN_ZONE])).waiting if one.id == both]
    assert (task.runner_labels, task.memory_bytes) == (ZONE | FAST, 0)
    assert (await owner.tasks.get(hungry)).memory_bytes == 900
    assert (await owner.tasks.get(both)).runner_labels == ZONE | FAST


async def test_tasks_that_wait_for_one_runner_hide_none_of_another(pool: Pool) -> None:
    owner = Owner(pool)
    for _ in range(20):
        await owner.tasks.create(asking(ZONE))
    behind = (await owner.tasks.create(asking())).id

    assert behind in await seen(owner.queue, PLAIN, IN_ZONE, limit=8)
    assert len(await seen(owner.queue, PLAIN, IN_ZONE, limit=8)) == 9


async def test_one_that_needs_memory_that_only_a_runner_without_its_labels_has_is_not_looked_at(pool: Pool) -> None:
    owner = Owner(pool)
    await owner.tasks.create(asking(ZONE, memory=500))
    small_zone, large = Machine("t:1", 4, 4, ZONE, 100, 100), Machine("t:2", 4, 4, {}, 1000, 1000)
    assert await seen(owner.queue, small_zone, large) == []


async def test_task_managers_at_once_never_promise_the_same_memory(pool: Pool) -> None:
    owner = Owner(pool)
    ids = [(await owner.tasks.create(asking(memory=300))).id for _ in range(8)]
    machine = Machine("t:1", 8, 8, {}, 1000, 1000)

    claims = [queue(pool).claim(ids, machine) for _ in range(4)]
    claimed = [assignment for found in await asyncio.gather(*claims) for assignment in found]

    assert len(claimed) == 3
    assert {assignment.memory_bytes for assignment in claimed} == {300}
    assert await queue(pool).claim(ids, machine) == []
    view = await owner.queue.look([machine])
    assert sum(run.memory_bytes for run in view.running) == 900
    assert len(await queue(pool).claim(ids, PLAIN)) == 1, "of this one's memory nothing is known: its processes alone count"


@pytest.mark.parametrize(("changed", "kept"), [(None, 300), (700, 700)], ids=["the same numbers", "others"])
async def test_a_retry_with_other_numbers_needs_other_memory(pool: Pool, changed: int | None, kept: int) -> None:
    owner = Owner(pool)
    task = await owner.tasks.create(asking(ZONE, memory=300))
    await owner.tasks.cancel(task.id, "")
    wanted = Retry(task_id=task.id, request_id=None, request_digest=b"d", from_start=True, memory_bytes=changed)
    again = await RetryRepository(pool, Hub()).retry(wanted)
    assert (again.memory_bytes, again.runner_labels) == (kept, ZONE)


async def test_a_claim_keeps_how_its_trainer_is_fenced_and_the_next_one_forgets_it(pool: Pool) -> None:
    owner = Owner(pool)
    task = await owner.tasks.create(asking())
    minute = datetime.timedelta(minutes=1)
    (first,) = await owner.queue.claim([task.id], dataclasses.replace(PLAIN, fenced_after=minute))
    assert (first.fenced_after, (await owner.claims.refresh(first.claim)).fenced_after) == (minute, minute)
    await owner.claims.finish(first.claim, Change(State.QUEUED, "again"))
    (second,) = await owner.queue.claim([task.id], PLAIN)
    assert second.fenced_after is None


async def test_many_who_write_about_the_same_trainers_do_not_lock_one_another_out(pool: Pool) -> None:
    names = [f"t:{number}" for number in range(20)]
    await asyncio.gather(*(Owner(pool).claims.heard(names[::step]) for step in (1, -1) * 10))


async def test_the_silence_of_a_trainer_is_what_any_task_manager_has_written(pool: Pool) -> None:
    one, other = Owner(pool), Owner(pool)
    nothing = datetime.timedelta()
    assert await one.claims.silence("t:1") == nothing, "nobody has ever heard of it"
    await one.claims.heard(["t:1", "t:2", "t:1"])
    await one.claims.heard([])
    first = await other.claims.silence("t:1")
    assert nothing < first < await one.claims.silence("t:1")
    await other.claims.heard(["t:1"])
    assert await one.claims.silence("t:1") < await one.claims.silence("t:2")
    task = await one.tasks.create(asking())
    before = await one.claims.silence("t:1")
    await one.queue.claim([task.id], dataclasses.replace(PLAIN, fenced_after=datetime.timedelta(minutes=1)))
    assert await one.claims.silence("t:1") < before, "it has said what it can take a moment before"


async def says(manager: Platform, task: task_pb2.Task, wanted: str) -> None:
    async def said() -> bool | None:
        return (await manager.get(task.name)).state_reason == wanted or None

    assert await eventually(said, f"the task says: {wanted}")


async def test_callers_are_told_and_the_task_runs_once_a_runner_has_its_labels(manager: Platform, trainer: FakeTrainer) -> None:
    ask = a_task()
    ask.spec.runner_labels.update(ZONE)
    request = api.CreateTaskRequest(task=ask, request_id=str(uuid.uuid4()))
    plan = await manager.stub.PlanTask(api.PlanTaskRequest(task=ask))
    assert any("no runner with zone=a is there" in warning for warning in plan.warnings)

    task = await manager.stub.CreateTask(request)

    await says(manager, task, "no runner with zone=a is there")
    assert (await manager.stub.CreateTask(request)).name == task.name
    await (await manager.run_of(await manager.create())).end(task_pb2.Task.SUCCEEDED)
    trainer.labels = ZONE | FAST
    run = await manager.run_of(task)
    assert dict(run.run.spec.runner_labels) == ZONE, "the spec travels as it is"
    plan = await manager.stub.PlanTask(api.PlanTaskRequest(task=ask))
    assert not any("runner" in warning for warning in plan.warnings)


async def test_weights_in_four_bits_are_refused_while_no_runner_has_them_and_run_where_one_does(
    manager: Platform, trainer: FakeTrainer
) -> None:
    ask = a_task()
    ask.spec.fine_tuning.tuning = task_spec_pb2.FineTuning.QLORA
    # The task manager has heard of its trainer.
    await (await manager.run_of(await manager.create())).end(task_pb2.Task.SUCCEEDED)
    for call in (manager.stub.CreateTask(api.CreateTaskRequest(task=ask)), manager.stub.PlanTask(api.PlanTaskRequest(task=ask))):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "none of the trainers has bitsandbytes" in (refused.value.details() or "")

    trainer.labels = {"four-bit": "yes"}

    async def created() -> task_pb2.Task | None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            return await manager.stub.CreateTask(api.CreateTaskRequest(task=ask))
        return None

    task = await eventually(created, "it is taken once the trainer has told")
    run = await manager.run_of(task)
    assert (run.run.spec.fine_tuning.tuning, dict(run.run.spec.runner_labels)) == (task_spec_pb2.FineTuning.QLORA, {})
    assert task.effective_hyperparameters.HasField("lora")


async def test_a_task_waits_for_memory_and_a_setting_turns_that_off(
    postgres_dsn: str, storage_address: str, trainer: FakeTrainer
) -> None:
    trainer.total_memory_bytes = 1000
    settings = make_settings(postgres_dsn, storage_address, (trainer.address,))
    async with platform_of(settings, trainer) as manager:
        task = await manager.create()

        async def said() -> bool | None:
            return "of memory; the largest trainer has 0.0 GB" in (await manager.get(task.name)).state_reason or None

        assert await eventually(said, "the task says that it lacks memory")
    async with platform_of(dataclasses.replace(settings, place_by_memory=False), trainer) as manager:
        await manager.run_of(task)


async def test_runners_are_listed_as_they_are(postgres_dsn: str, storage_address: str, trainer: FakeTrainer) -> None:
    trainer.labels, trainer.total_memory_bytes = ZONE, 10**12
    other = FakeTrainer()
    await other.start()
    other.version = "99.0.0"
    settings = make_settings(postgres_dsn, storage_address, (trainer.address, other.address))
    async with platform_of(settings, trainer) as manager:
        task = await manager.create()
        await manager.run_of(task)
        listed = {one.address: one for one in (await manager.stub.ListRunners(api.ListRunnersRequest())).runners}
        ready, old = listed[trainer.address], listed[other.address]
        assert (ready.state, dict(ready.labels), ready.free_processes) == (api.Runner.READY, ZONE, 3)
        assert (list(ready.tasks), ready.free_memory_bytes) == ([task.name], 10**12)
        assert (old.state, list(old.tasks)) == (api.Runner.INCOMPATIBLE, [])
        assert "99.0.0" in old.state_reason

        await other.close()
        listed = {one.address: one for one in (await manager.stub.ListRunners(api.ListRunnersRequest())).runners}
        assert listed[other.address].state == api.Runner.SILENT
        assert listed[other.address].last_heard_time == old.last_heard_time


async def test_the_run_of_a_strict_trainer_that_stays_away_is_tried_elsewhere_and_that_of_a_relaxed_one_is_not(
    postgres_dsn: str, storage_address: str, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "LOST_ANSWER", datetime.timedelta(seconds=0.2))
    other = FakeTrainer()
    await other.start()
    trainer.labels, other.labels = {"n": "1"}, {"n": "2"}
    trainer.fenced_after_seconds = 0.5
    settings = make_settings(postgres_dsn, storage_address, (trainer.address, other.address))
    async with platform_of(settings, trainer) as manager:
        strict = await created(manager, {"n": "1"})
        relaxed = await created(manager, {"n": "2"})
        for task, where in ((strict, trainer), (relaxed, other)):
            await eventually(lambda task=task, where=where: started(where, task), "it starts")  # type: ignore[misc]
        await trainer.close()
        await other.close()

        await manager.until(strict.name, task_pb2.Task.QUEUED)
        told = await manager.get(strict.name)
        assert "has been silent for" in told.transitions[-1].reason

        async def waits() -> bool | None:
            told = await manager.get(relaxed.name)
            assert told.attempt == 1
            return told.state_reason.endswith("does not answer") or None

        assert await eventually(waits, "the other one waits for its trainer")

        await trainer.start()
        await manager.run_of(strict, attempt=2)

        async def ended() -> bool | None:
            return trainer.cancelled == [f"runs/{strict.name.removeprefix('tasks/')}-1"] or None

        assert await eventually(ended, "the older run, should it live in spite of the rule, is ended")


async def created(manager: Platform, labels: Mapping[str, str]) -> task_pb2.Task:
    ask = a_task()
    ask.spec.runner_labels.update(labels)
    return await manager.stub.CreateTask(api.CreateTaskRequest(task=ask), wait_for_ready=True)


async def started(where: FakeTrainer, task: task_pb2.Task) -> bool | None:
    return f"runs/{task.name.removeprefix('tasks/')}-1" in where.runs or None


async def test_a_plan_does_not_count_a_trainer_of_another_version_as_room(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.version, trainer.flops_per_second = "99.0.0", 1e12
    plan = await manager.stub.PlanTask(api.PlanTaskRequest(task=a_task("", num_processes=64)))
    assert not plan.HasField("estimated_duration"), "its speed does not count"
    trainer.version = ""
    plan = await manager.stub.PlanTask(api.PlanTaskRequest(task=a_task("", num_processes=64)))
    assert plan.HasField("estimated_duration")
    assert any("needs 64 processes; the largest trainer has 4" in warning for warning in plan.warnings)
