"""Listing, counting, updating and watching many tasks, over real Postgres and gRPC."""

import asyncio
import contextlib
import datetime
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2, timestamp_pb2
from integration.task_manager.manager_harness import DEADLINE_SECONDS, Platform, a_task, eventually, reason_and_fields

from services.common.postgres import Pool
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2, task_spec_pb2

pytestmark = pytest.mark.integration

FineTuning = task_spec_pb2.FineTuning


async def create(manager: Platform, name: str, *, tuning: int = 0, **facts: Any) -> str:
    """A task that is cancelled at once, so that no run disturbs."""
    task = a_task(name)
    task.spec.fine_tuning.tuning = tuning  # type: ignore[assignment]
    task.MergeFrom(task_pb2.Task(**facts))
    created = await manager.stub.CreateTask(api.CreateTaskRequest(task=task), wait_for_ready=True)
    await manager.stub.CancelTask(api.CancelTaskRequest(name=created.name))
    # A trainer may have had it already; then it takes a moment.
    await manager.until(created.name, task_pb2.Task.CANCELLED)
    return created.name


async def names(manager: Platform, **conditions: Any) -> list[str]:
    """Display names of the tasks that match, oldest first."""
    answer = await manager.stub.ListTasks(api.ListTasksRequest(filter=api.TaskFilter(**conditions)))
    return [task.display_name for task in reversed(answer.tasks)]


async def update(manager: Platform, name: str, *paths: str, **values: Any) -> task_pb2.Task:
    mask = field_mask_pb2.FieldMask(paths=paths)
    return await manager.stub.UpdateTask(api.UpdateTaskRequest(task=task_pb2.Task(name=name, **values), update_mask=mask))


# ---- listing


async def test_tasks_are_found_by_what_they_are(manager: Platform) -> None:
    await create(manager, "one", labels={"team": "x"}, description="runs every Night")
    await create(manager, "two", tuning=FineTuning.FULL, creator="ann", labels={"team": "x", "tier": "1"})
    await create(manager, "Nightly")

    assert await names(manager, creator="ann") == ["two"]
    assert await names(manager, creator="an") == []
    assert await names(manager, labels={"team": "x"}) == ["one", "two"]
    assert await names(manager, labels={"team": "x", "tier": "1"}) == ["two"]
    assert await names(manager, labels={"tier": "2"}) == []
    assert await names(manager, text="night") == ["one", "Nightly"]
    assert await names(manager, text="%") == []
    assert await names(manager, tunings=[FineTuning.FULL]) == ["two"]
    assert await names(manager, methods=[FineTuning.SFT]) == ["one", "two", "Nightly"]
    assert await names(manager, methods=[FineTuning.CPT, FineTuning.DPO]) == []
    assert await names(manager, base_model="baseModels/tiny") == ["one", "two", "Nightly"]
    assert await names(manager, base_model="baseModels/other") == []


async def test_tasks_are_found_by_when_they_were_created(manager: Platform) -> None:
    first, second = await create(manager, "first"), await create(manager, "second")
    times = [(await manager.get(name)).create_time for name in (first, second)]

    for name, task in (("first", first), ("second", second)):
        hexadecimal = uuid.UUID(task.removeprefix("tasks/")).hex
        assert await names(manager, id_prefix=hexadecimal) == [name]
        assert name in await names(manager, id_prefix=hexadecimal[:8])
        assert name not in await names(manager, id_prefix=("0" if hexadecimal[0] != "0" else "1"))
    assert await names(manager, from_create_time=times[1]) == ["second"]
    assert await names(manager, before_create_time=times[1]) == ["first"]
    assert await names(manager, from_create_time=times[0], before_create_time=times[1]) == ["first"]


async def test_totals_count_all_pages_by_state(manager: Platform) -> None:
    for name in ("a", "b", "c"):
        await create(manager, name)
    manager.trainer.total_processes = 0
    await manager.create("waits", num_processes=4)

    page = await manager.stub.ListTasks(api.ListTasksRequest(page_size=1, include_totals=True))
    assert {(total.state, total.task_count) for total in page.totals} >= {(task_pb2.Task.CANCELLED, 3)}
    assert sum(total.task_count for total in page.totals) == 4

    wanted = api.TaskFilter(text="b")
    page = await manager.stub.ListTasks(api.ListTasksRequest(filter=wanted, include_totals=True))
    assert [(total.state, total.task_count) for total in page.totals] == [(task_pb2.Task.CANCELLED, 1)]
    assert not page.totals[0].at_least
    assert not (await manager.stub.ListTasks(api.ListTasksRequest())).totals


async def test_pages_keep_to_the_filter(manager: Platform) -> None:
    for index in range(5):
        await create(manager, f"n{index}", labels={"even": str(index % 2 == 0)})
    request = api.ListTasksRequest(page_size=2, filter=api.TaskFilter(labels={"even": "True"}))
    first = await manager.stub.ListTasks(request)
    request.page_token = first.next_page_token
    second = await manager.stub.ListTasks(request)
    assert [task.display_name for task in (*first.tasks, *second.tasks)] == ["n4", "n2", "n0"]
    assert not second.next_page_token

    request.filter.labels["even"] = "False"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.stub.ListTasks(request)
    assert reason_and_fields(caught.value) == ("INVALID_PAGE_TOKEN", ["page_token"])


# ---- updating


async def test_what_people_call_a_task_can_be_changed_in_any_state(manager: Platform) -> None:
    name = await create(manager, "old", labels={"team": "x"})
    before = await manager.get(name)

    after = await update(manager, name, "display_name", display_name="new", description="not named in the mask")
    assert (after.display_name, after.description, dict(after.labels)) == ("new", "d", {"team": "x"})
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    assert (after.spec, after.state, after.create_time) == (before.spec, before.state, before.create_time)
    read = await manager.get(name)
    read.ClearField("transitions")
    assert read == after

    after = await update(manager, name, "labels", "description")
    assert (dict(after.labels), after.description) == ({}, "")


async def test_a_bad_update_changes_nothing(manager: Platform) -> None:
    name = await create(manager, "old")
    for paths, field in ((["display_name"], "task.display_name"), (["state"], "update_mask"), ([], "update_mask")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await update(manager, name, *paths)
        assert reason_and_fields(caught.value) == ("INVALID_FIELD", [field])
    assert (await manager.get(name)).display_name == "old"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(manager, f"tasks/{uuid.uuid4()}", "description")
    assert reason_and_fields(caught.value)[0] == "TASK_NOT_FOUND"


async def test_a_waiting_task_tells_its_place_and_moves_up(manager: Platform) -> None:
    waiting = [await manager.create(f"n{index}", num_processes=8) for index in range(3)]
    assert [(await manager.get(task.name)).queue_position for task in waiting] == [1, 2, 3]

    moved = await update(manager, waiting[2].name, "priority", priority=5)
    assert moved.priority == 5
    assert [(await manager.get(task.name)).queue_position for task in waiting] == [2, 3, 1]

    await manager.stub.CancelTask(api.CancelTaskRequest(name=waiting[0].name))
    assert [(await manager.get(task.name)).queue_position for task in waiting] == [0, 2, 1]


async def test_a_priority_out_of_range_is_refused(manager: Platform) -> None:
    for priority in (-101, 101):
        task = a_task()
        task.priority = priority
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await manager.stub.CreateTask(api.CreateTaskRequest(task=task), wait_for_ready=True)
        assert reason_and_fields(caught.value) == ("INVALID_FIELD", ["task.priority"])


# ---- watching


@contextlib.asynccontextmanager
async def watching(manager: Platform, **fields: Any) -> AsyncIterator[Any]:
    """An open stream whose first response has come; that one says only from when on."""
    call = manager.stub.WatchTasks(api.WatchTasksRequest(**fields), timeout=DEADLINE_SECONDS, wait_for_ready=True)
    assert not (await call.read()).tasks or "after_time" in fields
    try:
        yield call
    finally:
        call.cancel()


async def next_change(call: Any) -> api.WatchTasksResponse:
    """The next response with tasks."""
    while not (response := await call.read()).tasks:
        pass
    return response  # type: ignore[no-any-return]


async def test_changes_come_in_order_and_only_of_tasks_that_match(manager: Platform) -> None:
    await create(manager, "before", labels={"team": "x"})
    async with watching(manager, filter=api.TaskFilter(labels={"team": "x"})) as call:
        await create(manager, "other", labels={"team": "y"})
        name = await create(manager, "mine", labels={"team": "x"})
        await update(manager, name, "display_name", display_name="renamed")
        seen = []
        while not seen or seen[-1].display_name != "renamed":
            seen += (await next_change(call)).tasks
        assert {task.name for task in seen} == {name}
        assert seen[-1].state == task_pb2.Task.CANCELLED


async def test_who_comes_back_hears_what_changed_meanwhile(manager: Platform) -> None:
    async with watching(manager) as call:
        first = await create(manager, "first")
        reached = (await next_change(call)).time
    second = await create(manager, "second")

    call = manager.stub.WatchTasks(api.WatchTasksRequest(after_time=reached), timeout=DEADLINE_SECONDS)
    told = {task.name async for response in _until(call, second) for task in response.tasks}
    assert second in told <= {first, second}


async def _until(call: Any, name: str) -> AsyncIterator[api.WatchTasksResponse]:
    while True:
        response = await call.read()
        yield response
        if any(task.name == name for task in response.tasks):
            call.cancel()
            return


async def test_a_change_that_is_committed_after_later_ones_is_told(manager: Platform, pool: Pool) -> None:
    slow, fast = await create(manager, "slow"), await create(manager, "fast")
    async with watching(manager) as call, pool.connection() as connection, connection.transaction():
        await connection.execute(
            "UPDATE task_manager.task SET description = 'slow', update_time = now() WHERE id = %s", [slow.removeprefix("tasks/")]
        )
        await update(manager, fast, "description", description="fast")
        assert [task.description for task in (await next_change(call)).tasks] == ["fast"]
        await connection.execute("COMMIT")
        assert [task.description for task in (await next_change(call)).tasks] == ["slow"]
        await connection.execute("BEGIN")


async def test_a_stopping_server_says_where_to_go_on(manager: Platform) -> None:
    async with watching(manager) as call:
        stopping = asyncio.create_task(manager.stop())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await call.read() is not grpc.aio.EOF:
                pass
        await stopping
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_and_fields(caught.value)[0] == "SERVER_STOPPING"


async def test_heartbeats_say_that_nothing_changes(manager: Platform) -> None:
    async with watching(manager) as call:
        beats = [await call.read() for _ in range(2)]
    assert not [task for beat in beats for task in beat.tasks]
    assert beats[0].time.ToDatetime() < beats[1].time.ToDatetime()


async def test_a_time_far_in_the_past_tells_everything_since(manager: Platform) -> None:
    created = [await create(manager, f"n{index}") for index in range(3)]
    long_ago = timestamp_pb2.Timestamp()
    long_ago.FromDatetime(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    call = manager.stub.WatchTasks(api.WatchTasksRequest(after_time=long_ago), timeout=DEADLINE_SECONDS)
    told: list[str] = []

    async def all_told() -> bool | None:
        told.extend(task.name for task in (await call.read()).tasks)
        return True if set(told) == set(created) else None

    await eventually(all_told, "every task is told")
    call.cancel()
    assert told == created
