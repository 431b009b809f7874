"""Plans, refusals by content, and speeds of earlier runs, over real gRPC and real Postgres."""

import json
import uuid

import grpc
import pytest
from integration.task_manager.fake_peers import DATASET, OTHER_DATASET, FakeStorage, FakeTrainer, token_statistics
from integration.task_manager.manager_harness import Platform, a_task, eventually, make_settings, platform_of, reason_and_fields

from services.common.postgres import Pool
from services.task_manager.domain.throughput import RunSpeed
from services.task_manager.run_speeds import RunSpeeds
from tunesmith.v1 import base_model_pb2, dataset_pb2, task_pb2, task_spec_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

pytestmark = pytest.mark.integration

PATH = "task.spec.fine_tuning"
CONFIG = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16, "vocab_size": 32, "num_attention_heads": 2}


async def plan(manager: Platform, task: task_pb2.Task | None = None) -> api.TaskPlan:
    return await manager.stub.PlanTask(api.PlanTaskRequest(task=task or a_task("")))


def a_mixture(**weights: float) -> task_pb2.Task:
    """Of both datasets."""
    task = a_task()
    task.spec.fine_tuning.dataset = ""
    for name, weight in ((DATASET, weights.get("first", 1.0)), (OTHER_DATASET, weights.get("second", 1.0))):
        task.spec.fine_tuning.mixture.append(task_spec_pb2.WeightedDataset(dataset=name, weight=weight))
    return task


async def refusal(manager: Platform, task: task_pb2.Task) -> tuple[str, list[str], str]:
    """(reason, fields, message) with which both creating and planning are refused."""
    told = []
    for call in (
        manager.stub.CreateTask(api.CreateTaskRequest(task=task)),
        manager.stub.PlanTask(api.PlanTaskRequest(task=task)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        told.append((*reason_and_fields(caught.value), caught.value.details() or ""))
    assert told[0] == told[1]
    return told[0]


async def test_a_plan_tells_tokens_and_rows(manager: Platform) -> None:
    task = a_task("", num_train_epochs=1.0, global_batch_size=50)
    task.spec.fine_tuning.validation_split_ratio = 0.2

    found = await plan(manager, task)

    assert (found.total_steps, found.example_count, found.validation_example_count) == (2, 80, 20)
    assert (found.token_count, found.trainable_token_count) == (4000, 800)
    assert found.serving_problem == ""


async def test_a_mixture_is_planned_and_kept_with_full_names(manager: Platform) -> None:
    task = a_mixture(first=2.0, second=0.5)
    task.spec.fine_tuning.mixture[0].dataset = DATASET.removeprefix("datasets/")

    found = await plan(manager, task)
    kept = (await manager.stub.CreateTask(api.CreateTaskRequest(task=task))).spec.fine_tuning

    assert (found.example_count, found.token_count) == (250, 12_500)
    assert [(entry.dataset, entry.weight) for entry in kept.mixture] == [(DATASET, 2.0), (OTHER_DATASET, 0.5)]
    assert kept.dataset == ""


async def test_time_follows_from_the_trainer_s_speed_until_runs_were_seen(manager: Platform, trainer: FakeTrainer) -> None:
    assert (await plan(manager)).estimate_basis == api.TaskPlan.ESTIMATE_BASIS_UNSPECIFIED
    trainer.flops_per_second = 1e9

    measured = await plan(manager)
    trainer.script = lambda run: run.succeed()
    await manager.until((await manager.create()).name, task_pb2.Task.SUCCEEDED)
    seen = await plan(manager)

    assert measured.estimate_basis == api.TaskPlan.MEASURED_SPEED
    assert measured.estimated_duration.ToTimedelta().total_seconds() > 0
    assert seen.estimate_basis == api.TaskPlan.EARLIER_RUNS
    # The fake trainer reports 50 tokens per second; three passes of 5,000 tokens.
    assert seen.estimated_duration.ToTimedelta().total_seconds() == pytest.approx(300)


async def test_memory_follows_from_the_model_s_configuration(
    manager: Platform, storage: FakeStorage, trainer: FakeTrainer
) -> None:
    trainer.total_memory_bytes = 1000
    guessed = await plan(manager)
    storage.model_config = json.dumps(CONFIG).encode()

    known = await plan(manager)

    assert 0 < known.estimated_peak_memory_bytes < guessed.estimated_peak_memory_bytes
    assert any("GB of memory" in warning for warning in known.warnings)


async def test_rows_shared_with_the_validation_data_are_looked_for_only_by_plans(manager: Platform, storage: FakeStorage) -> None:
    storage.shared_rows = 7
    task = a_task()
    task.spec.fine_tuning.validation_dataset = OTHER_DATASET

    found = await plan(manager, task)

    assert any("7 training examples are in the validation data" in warning for warning in found.warnings)
    assert [(request.name, request.against) for request in storage.asked] == [(DATASET, OTHER_DATASET), (OTHER_DATASET, "")]
    await manager.stub.CreateTask(api.CreateTaskRequest(task=task))
    assert {request.against for request in storage.asked[2:]} == {""}


async def test_cut_rows_are_a_warning(manager: Platform, storage: FakeStorage) -> None:
    storage.tokens[DATASET] = token_statistics(over_length_count=4, truncated_answer_count=2)

    found = await plan(manager, a_task("", max_seq_length=40))

    assert any(warning.startswith("4 of 100 examples are longer than max_seq_length 40") for warning in found.warnings)
    assert {request.max_seq_length for request in storage.asked} == {40}


# ---- refusals


async def test_data_of_another_format_is_refused(manager: Platform, storage: FakeStorage) -> None:
    storage.formats[OTHER_DATASET] = dataset_pb2.Dataset.TEXT

    reason, fields, message = await refusal(manager, a_mixture())

    assert (reason, fields) == ("INVALID_FIELD", [f"{PATH}.mixture[1].dataset"])
    assert "format TEXT; method SFT learns from CHAT" in message


async def test_a_format_of_a_newer_storage_service_is_refused(manager: Platform, storage: FakeStorage) -> None:
    storage.formats[DATASET] = 99  # type: ignore[assignment]

    assert (await refusal(manager, a_task()))[1] == [f"{PATH}.dataset"]


async def test_a_chat_template_that_cannot_train_is_refused(manager: Platform, storage: FakeStorage) -> None:
    storage.base_model = base_model_pb2.BaseModel(context_length=512, chat_template_problem="no loss on the end of a turn")

    _, fields, message = await refusal(manager, a_task())

    assert fields == [f"{PATH}.base_model"]
    assert "no loss on the end of a turn" in message


async def test_rows_that_the_template_refuses_are_named(manager: Platform, storage: FakeStorage) -> None:
    row = dataset_pb2.RowViolation(line=14, path="messages[1]", message="roles must alternate")
    storage.tokens[DATASET] = token_statistics(violation_count=1, violations=[row])

    _, fields, message = await refusal(manager, a_task())

    assert fields == [f"{PATH}.dataset"]
    assert "line 14: messages[1]: roles must alternate" in message


@pytest.mark.parametrize("changes", [{"trainable_token_count": 0}, {"untrainable_count": 100}])
async def test_nothing_to_learn_is_refused(manager: Platform, storage: FakeStorage, changes: dict[str, int]) -> None:
    storage.tokens[DATASET] = token_statistics(**changes)

    assert (await refusal(manager, a_task()))[1] == [f"{PATH}.dataset"]


async def test_validation_data_is_refused_for_the_same_reasons(manager: Platform, storage: FakeStorage) -> None:
    storage.tokens[OTHER_DATASET] = token_statistics(trainable_token_count=0)
    task = a_task()
    task.spec.fine_tuning.validation_dataset = OTHER_DATASET

    assert (await refusal(manager, task))[1] == [f"{PATH}.validation_dataset"]


# ---- counting takes its time


async def test_a_task_is_created_without_token_counts_and_says_so(
    postgres_dsn: str, storage_address: str, storage: FakeStorage, trainer: FakeTrainer
) -> None:
    storage.counting.clear()
    settings = make_settings(postgres_dsn, storage_address, (trainer.address,), create_token_wait=0.05, plan_token_wait=60.0)
    async with platform_of(settings, trainer) as manager:
        task = await manager.create()
        planning = manager.stub.PlanTask(api.PlanTaskRequest(task=a_task("")))

        async def is_asked() -> bool | None:
            return len(storage.asked) == 2 or None

        await eventually(is_asked, "the plan asks for tokens")
        storage.counting.set()
        assert (await planning).token_count == 5000
        events = await manager.stub.ListEvents(api.ListEventsRequest(name=task.name))

    assert "not counted in time" in events.events[0].state_change.reason


async def test_a_storage_service_that_cannot_count_is_no_obstacle(manager: Platform, storage: FakeStorage) -> None:
    storage.can_count = False

    found = await plan(manager)

    assert (found.total_steps, found.token_count, found.estimated_peak_memory_bytes) == (21, 0, 0)
    assert any("not counted yet" in warning for warning in found.warnings)
    manager.trainer.total_processes = 0
    assert (await manager.create()).state == task_pb2.Task.QUEUED


# ---- speeds


async def test_the_speed_of_a_run_is_kept_with_what_it_was(manager: Platform, pool: Pool, trainer: FakeTrainer) -> None:
    trainer.script = lambda run: run.succeed()

    task = await manager.create()
    await manager.until(task.name, task_pb2.Task.SUCCEEDED)

    (kept,) = await RunSpeeds(pool).of("baseModels/tiny")
    assert isinstance(kept, RunSpeed)
    assert kept.tokens_per_second == pytest.approx(50.0)
    assert (kept.kind.method, kept.kind.tuning, kept.kind.processes) == ("SFT", "LORA", 1)
    assert (kept.kind.lora_rank, kept.kind.target_modules, kept.kind.batch_size) == (16, ("all-linear",), 8)
    assert await RunSpeeds(pool).of("baseModels/other") == []


async def test_speeds_outlive_their_task(manager: Platform, pool: Pool, trainer: FakeTrainer) -> None:
    trainer.script = lambda run: run.succeed()
    task = await manager.create()
    await manager.until(task.name, task_pb2.Task.SUCCEEDED)

    await manager.stub.DeleteTask(api.DeleteTaskRequest(name=task.name))

    assert len(await RunSpeeds(pool).of("baseModels/tiny")) == 1


async def test_a_run_that_ends_before_its_first_metrics_leaves_no_speed(
    manager: Platform, pool: Pool, trainer: FakeTrainer
) -> None:
    trainer.script = lambda run: run.end(task_pb2.Task.FAILED)

    await manager.until((await manager.create()).name, task_pb2.Task.FAILED)

    assert await RunSpeeds(pool).of("baseModels/tiny") == []


# ---- tasks by dataset


async def names(manager: Platform, **wanted: object) -> list[str]:
    answer = await manager.stub.ListTasks(api.ListTasksRequest(**wanted))  # type: ignore[arg-type]
    return [task.name for task in answer.tasks]


async def test_tasks_are_found_by_every_dataset_they_use(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    first = await manager.create()
    mixed = await manager.stub.CreateTask(api.CreateTaskRequest(task=a_mixture()))
    validated = a_task()
    validated.spec.fine_tuning.validation_dataset = OTHER_DATASET
    second = await manager.stub.CreateTask(api.CreateTaskRequest(task=validated))

    assert await names(manager, dataset=DATASET) == [second.name, mixed.name, first.name]
    assert await names(manager, dataset=OTHER_DATASET.removeprefix("datasets/")) == [second.name, mixed.name]
    assert await names(manager, dataset=f"datasets/{uuid.uuid4()}") == []
    assert await names(manager, dataset=OTHER_DATASET, states=[task_pb2.Task.RUNNING]) == []


async def test_a_page_token_belongs_to_its_dataset(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    for _ in range(2):
        await manager.create()
    page = await manager.stub.ListTasks(api.ListTasksRequest(dataset=DATASET, page_size=1))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.stub.ListTasks(api.ListTasksRequest(dataset=OTHER_DATASET, page_size=1, page_token=page.next_page_token))

    assert reason_and_fields(caught.value)[0] == "INVALID_PAGE_TOKEN"


async def test_a_dataset_to_filter_by_is_a_name(manager: Platform) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.stub.ListTasks(api.ListTasksRequest(dataset="baseModels/x"))

    assert reason_and_fields(caught.value) == ("INVALID_NAME", ["dataset"])
