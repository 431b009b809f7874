"""Creating, planning, reading, listing and deleting tasks over real gRPC."""

import asyncio
import datetime

import grpc
import psycopg
import pytest
from integration.task_manager.fake_peers import BASE_MODEL, DATASET, OTHER_DATASET, FakeStorage, FakeTrainer, new_id
from integration.task_manager.manager_harness import Platform, a_task, eventually, make_settings, platform_of, reason_and_fields

from services.common.postgres import Pool
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1 import task_pb2

pytestmark = pytest.mark.integration

UNKNOWN = "44444444-4444-4444-8444-444444444444"


@pytest.fixture(autouse=True)
def without_room(trainer: FakeTrainer) -> None:
    """Tasks stay queued."""
    trainer.total_processes = 0


async def refused(call: object) -> tuple[grpc.StatusCode, str, list[str]]:
    """How a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), *reason_and_fields(caught.value)


async def count(pool: Pool, table: str) -> int:
    async with pool.connection() as connection:
        row = await (await connection.execute(f"SELECT count(*) AS n FROM task_manager.{table}".encode())).fetchone()
    assert row
    return int(row["n"])


async def test_a_new_task_is_queued_with_everything_resolved(manager: Platform) -> None:
    task = await manager.create("named")

    assert task.name.startswith("tasks/")
    assert (task.display_name, task.description, dict(task.labels)) == ("named", "d", {"team": "a"})
    assert (task.state, task.attempt, task.epoch, task.head_sequence) == (task_pb2.Task.QUEUED, 0, 0, 1)
    assert not task.HasField("progress")
    assert not task.HasField("start_time")
    assert not task.HasField("error")
    assert task.effective_hyperparameters.global_batch_size == 16
    assert task.effective_hyperparameters.lora.rank == 16


async def test_bare_ids_are_accepted_and_kept_as_resource_names(manager: Platform) -> None:
    ask = a_task()
    ask.spec.fine_tuning.base_model = "tiny"
    ask.spec.fine_tuning.dataset = DATASET.removeprefix("datasets/")
    ask.spec.fine_tuning.validation_dataset = OTHER_DATASET.removeprefix("datasets/")

    kept = (await manager.stub.CreateTask(api.CreateTaskRequest(task=ask))).spec.fine_tuning

    assert (kept.base_model, kept.dataset, kept.validation_dataset) == (BASE_MODEL, DATASET, OTHER_DATASET)
    assert (kept.method, kept.tuning) == (kept.SFT, kept.LORA)


async def test_every_bad_field_is_named_at_once_and_storage_is_not_asked(manager: Platform, storage: FakeStorage) -> None:
    ask = a_task("", learning_rate=-1.0, seed=-5)
    ask.spec.fine_tuning.dataset = "models/x"

    code, reason, fields = await refused(manager.stub.CreateTask(api.CreateTaskRequest(task=ask)))

    path = "task.spec.fine_tuning"
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert fields == [
        "task.display_name",
        f"{path}.dataset",
        f"{path}.hyperparameters.learning_rate",
        f"{path}.hyperparameters.seed",
    ]
    assert storage.calls == 0


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("dataset", f"datasets/{UNKNOWN}", "DATASET_NOT_FOUND"),
        ("validation_dataset", f"datasets/{UNKNOWN}", "DATASET_NOT_FOUND"),
        ("base_model", "baseModels/absent", "BASE_MODEL_NOT_FOUND"),
    ],
)
async def test_what_does_not_exist_is_named_with_its_field(
    manager: Platform, pool: Pool, field: str, value: str, reason: str
) -> None:
    ask = a_task()
    setattr(ask.spec.fine_tuning, field, value)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.stub.CreateTask(api.CreateTaskRequest(task=ask))

    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert reason_and_fields(caught.value)[0] == reason
    assert f"task.spec.fine_tuning.{field}: {value}" in (caught.value.details() or "")
    assert await count(pool, "task") == 0


async def test_context_length_and_batch_contradictions_are_refused(manager: Platform) -> None:
    path = "task.spec.fine_tuning.hyperparameters"

    long = await refused(manager.create(max_seq_length=513))
    batch = await refused(manager.create(global_batch_size=10, per_device_train_batch_size=4, gradient_accumulation_steps=2))

    assert long[1:] == ("INVALID_FIELD", [f"{path}.max_seq_length"])
    sizes = ("global_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps")
    assert batch[1:] == ("INVALID_FIELD", [f"{path}.{size}" for size in sizes])


async def test_storage_that_is_away_is_unavailable(postgres_dsn: str, trainer: FakeTrainer) -> None:
    async with platform_of(make_settings(postgres_dsn, "127.0.0.1:1", (trainer.address,)), trainer) as manager:
        code, reason, _ = await refused(manager.create())

    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")


async def test_a_repeat_with_the_same_request_id_returns_the_first_task(manager: Platform, pool: Pool) -> None:
    request = api.CreateTaskRequest(task=a_task(), request_id=new_id())

    tasks = await asyncio.gather(*(manager.stub.CreateTask(request) for _ in range(10)))

    assert len({task.name for task in tasks}) == 1
    assert (await count(pool, "task"), await count(pool, "event_frame")) == (1, 1)


async def test_a_repeat_is_answered_without_storage(manager: Platform, storage: FakeStorage) -> None:
    request = api.CreateTaskRequest(task=a_task(), request_id=new_id())
    first = await manager.stub.CreateTask(request)
    asked = storage.calls

    again = await manager.stub.CreateTask(request)

    assert (again.name, storage.calls) == (first.name, asked)


@pytest.mark.parametrize("changed", ["display_name", "description", "labels", "spec"])
async def test_a_request_id_is_not_good_for_another_request(manager: Platform, changed: str) -> None:
    request = api.CreateTaskRequest(task=a_task(), request_id=new_id())
    await manager.stub.CreateTask(request)
    if changed == "labels":
        request.task.labels["other"] = "x"
    elif changed == "spec":
        request.task.spec.fine_tuning.hyperparameters.seed = 7
    else:
        setattr(request.task, changed, "other")

    assert (await refused(manager.stub.CreateTask(request)))[:2] == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_request_id_is_a_uuid(manager: Platform) -> None:
    request = api.CreateTaskRequest(task=a_task(), request_id="abc")

    assert (await refused(manager.stub.CreateTask(request)))[1:] == ("INVALID_FIELD", ["request_id"])


async def test_validate_only_stores_nothing_and_returns_the_task_as_it_would_be(manager: Platform, pool: Pool) -> None:
    request = api.CreateTaskRequest(task=a_task(), validate_only=True)

    preview = await manager.stub.CreateTask(request)
    created = await manager.create()

    assert preview.name == ""
    assert preview.effective_hyperparameters == created.effective_hyperparameters
    assert (preview.spec, preview.state) == (created.spec, created.state)
    assert await count(pool, "task") == 1


async def test_a_plan_needs_no_display_name_and_tells_the_steps(manager: Platform, pool: Pool) -> None:
    plan = await manager.stub.PlanTask(api.PlanTaskRequest(task=a_task("", global_batch_size=50)))

    assert (plan.total_steps, plan.example_count) == (6, 100)
    assert plan.effective_hyperparameters.max_steps == 6
    assert await count(pool, "task") == 0


async def test_planning_fails_as_creating_fails(manager: Platform) -> None:
    ask = a_task(learning_rate=2.0)

    planned = await refused(manager.stub.PlanTask(api.PlanTaskRequest(task=ask)))
    created = await refused(manager.stub.CreateTask(api.CreateTaskRequest(task=ask)))

    assert planned == created


async def test_an_unknown_task_is_not_found_whatever_is_asked(manager: Platform) -> None:
    name = f"tasks/{UNKNOWN}"
    calls = (
        manager.stub.GetTask(api.GetTaskRequest(name=name)),
        manager.stub.CancelTask(api.CancelTaskRequest(name=name)),
        manager.stub.DeleteTask(api.DeleteTaskRequest(name=name)),
        manager.stub.ListEvents(api.ListEventsRequest(name=name)),
        manager.stub.ListMetrics(api.ListMetricsRequest(name=name)),
    )

    for call in calls:
        assert (await refused(call))[:2] == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")


async def test_a_task_that_lives_cannot_be_deleted(manager: Platform) -> None:
    task = await manager.create()

    code, reason, _ = await refused(manager.stub.DeleteTask(api.DeleteTaskRequest(name=task.name)))

    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_NOT_TERMINAL")


async def test_pages_of_tasks_are_newest_first_and_join_to_the_whole(manager: Platform) -> None:
    names = [(await manager.create(f"task {number}")).name for number in range(5)]
    found, token = [], ""

    while True:
        page = await manager.stub.ListTasks(api.ListTasksRequest(page_size=2, page_token=token))
        found += [task.name for task in page.tasks]
        token = page.next_page_token
        if not token:
            break

    assert found == names[::-1]


async def test_tasks_are_filtered_by_state_and_by_part_of_the_name(manager: Platform) -> None:
    kept = await manager.create("100%_Match")
    await manager.create("other")
    cancelled = await manager.create("100%_match too")
    await manager.stub.CancelTask(api.CancelTaskRequest(name=cancelled.name))

    by_text = await manager.stub.ListTasks(api.ListTasksRequest(display_name_contains="%_mAtch"))
    by_state = await manager.stub.ListTasks(api.ListTasksRequest(states=[task_pb2.Task.CANCELLED]))
    both = await manager.stub.ListTasks(api.ListTasksRequest(states=[task_pb2.Task.QUEUED], display_name_contains="%_"))

    assert [task.name for task in by_text.tasks] == [cancelled.name, kept.name]
    assert [task.name for task in by_state.tasks] == [cancelled.name]
    assert [task.name for task in both.tasks] == [kept.name]


async def test_a_page_token_is_bound_to_its_filter(manager: Platform) -> None:
    for _ in range(2):
        await manager.create()
    token = (await manager.stub.ListTasks(api.ListTasksRequest(page_size=1))).next_page_token

    other = await refused(manager.stub.ListTasks(api.ListTasksRequest(page_token=token, display_name_contains="x")))
    broken = await refused(manager.stub.ListTasks(api.ListTasksRequest(page_token="!")))
    negative = await refused(manager.stub.ListTasks(api.ListTasksRequest(page_size=-1)))
    state = await refused(manager.stub.ListTasks(api.ListTasksRequest(states=[0])))

    assert other[1:] == broken[1:] == ("INVALID_PAGE_TOKEN", ["page_token"])
    assert negative[2] == ["page_size"]
    assert state[2] == ["states[0]"]


async def test_postgres_that_is_away_is_unavailable_and_back_again_without_a_restart(
    manager: Platform, trainer: FakeTrainer, postgres_dsn: str
) -> None:
    task = await manager.create()
    server, database = postgres_dsn.rsplit("/", 1)

    async def allow(answer: str) -> None:
        async with await psycopg.AsyncConnection.connect(f"{server}/postgres", autocommit=True) as admin:
            await admin.execute(f'ALTER DATABASE "{database}" WITH ALLOW_CONNECTIONS {answer}'.encode())
            await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))

    await allow("false")
    code, reason, _ = await refused(manager.stub.GetTask(api.GetTaskRequest(name=task.name)))
    await allow("true")

    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "POSTGRES_UNAVAILABLE")
    trainer.total_processes = 1

    async def started() -> bool | None:
        try:
            return (await manager.get(task.name)).attempt == 1 or None
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    await eventually(started, "the task is dispatched after Postgres is back")


async def test_times_are_those_of_the_database(manager: Platform) -> None:
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)

    created = (await manager.create()).create_time.ToDatetime(datetime.UTC)

    assert before < created < before + datetime.timedelta(minutes=2)
