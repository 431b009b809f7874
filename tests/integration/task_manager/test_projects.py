"""Quotas and shares of projects in the database, and what callers are told."""

import asyncio
import dataclasses
import uuid

import grpc
import pytest
from integration.task_manager.fake_peers import FakeTrainer
from integration.task_manager.manager_harness import a_task, eventually, make_settings, platform_of, reason_and_fields
from integration.task_manager.test_repositories import LEASE, Owner, a_new_task

from services.common.errors import ServiceError
from services.common.postgres import Pool, transaction
from services.task_manager.domain.placement import Machine
from services.task_manager.domain.schedule import decide
from services.task_manager.domain.task import NewTask
from services.task_manager.hub import Hub
from services.task_manager.project_quota import ProjectQuota
from services.task_manager.repository import TaskRepository
from services.task_manager.servicer import utc_now
from services.task_manager.task_queue import TaskQueue
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration


def of(project: str, processes: int = 1) -> NewTask:
    return dataclasses.replace(a_new_task(processes=processes), labels={"project": project} if project else {})


def queue(pool: Pool, quota: int = 0) -> TaskQueue:
    return TaskQueue(pool, Hub(), owner=uuid.uuid4(), lease=LEASE, quota=quota)


async def test_a_project_may_have_so_many_waiting_tasks_and_no_more_at_once(pool: Pool) -> None:
    tasks = TaskRepository(pool, Hub(), ProjectQuota(max_queued=3))
    answers = await asyncio.gather(*(tasks.create(of("p")) for _ in range(8)), return_exceptions=True)

    refused = [answer for answer in answers if isinstance(answer, ServiceError)]
    assert (len(refused), {error.reason for error in refused}) == (5, {"PROJECT_QUOTA_EXCEEDED"})
    assert refused[0].message == "3 tasks wait already; project 'p' may have 3"
    await tasks.create(of("q"))
    await tasks.create(of(""))

    (first, *_) = [answer.id for answer in answers if not isinstance(answer, BaseException)]
    await tasks.cancel(first, "")
    await tasks.create(of("p"))


async def test_a_task_that_could_never_run_is_refused(pool: Pool) -> None:
    tasks = TaskRepository(pool, Hub(), ProjectQuota(max_processes=2))
    await tasks.create(of("p", 2))

    with pytest.raises(ServiceError, match="the task needs 3 processes; project 'p' may have 2"):
        await tasks.create(of("p", 3))


async def test_task_managers_at_once_never_claim_more_than_the_quota(pool: Pool) -> None:
    owner = Owner(pool)
    ids = [(await owner.tasks.create(of("p"))).id for _ in range(8)]
    others = [(await owner.tasks.create(of(project))).id for project in ("q", "")]

    claims = [queue(pool, 3).claim(ids, Machine(f"t:{number}", 8, 8)) for number in range(4)]
    claimed = [assignment for found in await asyncio.gather(*claims) for assignment in found]

    assert len(claimed) == 3
    assert len(await queue(pool, 3).claim(others, Machine("t:1", 8, 8))) == 2
    await owner.tasks.cancel(claimed[0].claim.task_id, "")
    assert await queue(pool, 3).claim(ids, Machine("t:1", 8, 8)) == [], "it is cancelled and still holds its process"


async def test_a_flood_hides_no_other_project_from_the_queue(pool: Pool) -> None:
    owner = Owner(pool)
    for _ in range(30):
        await owner.tasks.create(of("flood"))
    few = [(await owner.tasks.create(of("few", processes))).id for processes in (1, 2)]

    view = await queue(pool).look([Machine("m", 4, 4)], limit=8)

    assert {task.id for task in view.waiting if task.project == "few"} == set(few)
    assert len(view.waiting) == 10
    assert set(few) <= set(decide(view.waiting, [Machine("m", 5, 5)], view.running, utc_now()).starts)
    assert [task.processes for task in (await queue(pool).look([Machine("m", 1, 1)], limit=8)).waiting] == [1] * 9


async def test_many_projects_make_the_window_of_each_smaller_and_hide_none(pool: Pool) -> None:
    owner = Owner(pool)
    for _ in range(8):
        await asyncio.gather(*(owner.tasks.create(of(f"p{number}")) for number in range(20)))

    view = await queue(pool).look([Machine("m", 1, 1)], limit=12)

    assert len({task.project for task in view.waiting}) == 20
    assert len(view.waiting) == 20 * 6


async def test_the_labels_of_a_moment_count(pool: Pool) -> None:
    owner = Owner(pool)
    await owner.tasks.create(of("p"))
    async with transaction(pool) as connection:
        await connection.execute("UPDATE task_manager.task SET labels = jsonb_build_object('project', 'q')")

    assert [one.project for one in (await queue(pool).look([Machine("m", 1, 1)])).waiting] == ["q"]


async def test_callers_are_told(postgres_dsn: str, storage_address: str, trainer: FakeTrainer) -> None:
    settings = make_settings(postgres_dsn, storage_address, (trainer.address,), project_max_queued=1, project_max_processes=1)

    def ask() -> api.CreateTaskRequest:
        task = a_task()
        task.labels["project"] = "p"
        return api.CreateTaskRequest(task=task)

    async with platform_of(settings, trainer) as manager:
        first = await manager.stub.CreateTask(ask(), wait_for_ready=True)
        await manager.run_of(first)
        second = await manager.stub.CreateTask(ask())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await manager.stub.CreateTask(ask())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_and_fields(caught.value) == ("PROJECT_QUOTA_EXCEEDED", [])

        async def says() -> bool | None:
            task = await manager.get(second.name)
            return task.state_reason == "waits for its project, which holds 1 of 1 processes; it needs 1" or None

        assert await eventually(says, "the second says what it waits for")
        await (await manager.run_of(first)).end(task_pb2.Task.SUCCEEDED)
        await manager.until(first.name, task_pb2.Task.SUCCEEDED)
        await manager.run_of(second)
