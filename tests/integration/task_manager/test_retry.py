"""Trying ended tasks again, checkpoints on demand, and tasks that start from earlier ones, over real gRPC and Postgres."""

import asyncio
import json
import uuid

import grpc
import pytest
from integration.task_manager.fake_peers import BASE_MODEL, FakeStorage, FakeTrainer, new_id
from integration.task_manager.manager_harness import Platform, a_task, reason_and_fields
from stream_contract import check_events

from services.common.errors import ServiceError
from tunesmith.v1 import artifact_pb2, registered_model_pb2, task_pb2, task_spec_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

pytestmark = pytest.mark.integration

Task = task_pb2.Task


async def refused(call: object) -> tuple[str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return reason_and_fields(caught.value)


async def failed(manager: Platform, **numbers: object) -> str:
    task = await manager.create(**numbers)
    run = await manager.run_of(task)
    await run.start_training()
    await run.step(1, loss=2.0)
    await run.end(Task.FAILED, "TRAINING_PROCESS_KILLED")
    await manager.until(task.name, Task.FAILED)
    return task.name


def retry(manager: Platform, name: str, **changes: object):
    return manager.stub.RetryTask(api.RetryTaskRequest(name=name, **changes))


def checkpoint(task: str, step: int, **manifest: object) -> artifact_pb2.Artifact:
    numbers = task_spec_pb2.Hyperparameters(lora=task_spec_pb2.Lora(rank=8, alpha=16, target_modules=["all-linear"]))
    fields = {"task": task, "step": step, "base_model": BASE_MODEL, "attempt": 1, "tuning": task_spec_pb2.FineTuning.LORA}
    made = artifact_pb2.Artifact(name=f"artifacts/{uuid.uuid4()}", kind=artifact_pb2.Artifact.CHECKPOINT, size_bytes=7)
    made.manifest.MergeFrom(artifact_pb2.ArtifactManifest(**fields | {"effective_hyperparameters": numbers} | manifest))
    made.create_time.FromSeconds(1_700_000_000 + step)
    return made


async def test_a_failed_task_goes_on_as_another_attempt_in_one_stream(manager: Platform, trainer: FakeTrainer) -> None:
    name = await failed(manager)
    again = await retry(manager, name)
    assert again.state == Task.QUEUED
    assert not again.HasField("error")
    assert not again.HasField("end_time")
    run = await manager.run_of(again, attempt=2)
    assert (run.run.first_attempt, run.run.epoch) == (0, 2)
    await run.succeed(2)
    done = await manager.until(name, Task.SUCCEEDED)
    assert (done.attempt, done.epoch) == (2, 2)
    events = [event for message in await manager.watch(name) for event in message.events]
    check_events(events)
    changes = [Task.State.Name(event.state_change.to_state) for event in events if event.HasField("state_change")]
    assert changes == ["QUEUED", "STARTING", "RUNNING", "FAILED", "QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]


async def test_a_task_that_was_cancelled_before_it_began_can_begin(manager: Platform, trainer: FakeTrainer) -> None:
    trainer.total_processes = 0
    task = await manager.create()
    await manager.stub.CancelTask(api.CancelTaskRequest(name=task.name))
    await retry(manager, task.name)
    trainer.total_processes = 1
    await (await manager.run_of(task)).succeed(1)
    assert (await manager.until(task.name, Task.SUCCEEDED)).attempt == 1


async def test_in_every_other_state_there_is_nothing_to_try_again(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    assert (await refused(retry(manager, task.name)))[0] == "TASK_NOT_ENDED_BADLY"
    await run.succeed(1)
    await manager.until(task.name, Task.SUCCEEDED)
    assert (await refused(retry(manager, task.name)))[0] == "TASK_NOT_ENDED_BADLY"
    assert (await refused(retry(manager, f"tasks/{uuid.uuid4()}")))[0] == "TASK_NOT_FOUND"


async def test_a_repeat_changes_nothing_and_another_call_under_its_id_is_refused(manager: Platform, trainer: FakeTrainer) -> None:
    name, request_id = await failed(manager), new_id()
    trainer.total_processes = 0
    answers = await asyncio.gather(*(retry(manager, name, request_id=request_id) for _ in range(5)))
    assert {answer.state for answer in answers} == {Task.QUEUED}
    await manager.stub.CancelTask(api.CancelTaskRequest(name=name))
    assert (await retry(manager, name, request_id=request_id)).state == Task.CANCELLED, "the repeat came late"
    assert (await refused(retry(manager, name, request_id=request_id, from_start=True)))[0] == "REQUEST_ID_REUSED"
    events = [event for message in await manager.watch(name) for event in message.events]
    queued = [event for event in events if event.state_change.to_state == Task.QUEUED]
    assert len(queued) == 2


async def test_of_racing_calls_one_queues_the_task(manager: Platform, trainer: FakeTrainer) -> None:
    name = await failed(manager)
    trainer.total_processes = 0
    answers = await asyncio.gather(*(retry(manager, name, request_id=new_id()) for _ in range(5)), return_exceptions=True)
    assert [isinstance(answer, grpc.aio.AioRpcError) for answer in answers].count(False) == 1


async def test_numbers_that_fit_a_checkpoint_change_and_others_are_refused(
    manager: Platform, trainer: FakeTrainer, storage: FakeStorage
) -> None:
    name = await failed(manager, max_steps=50, learning_rate=0.5)
    storage.artifacts.append(checkpoint(name, 20))
    changes = task_spec_pb2.Hyperparameters(seed=3, learning_rate=0.1, max_seq_length=64)
    fields = ["hyperparameters.max_seq_length", "hyperparameters.seed"]
    assert await refused(retry(manager, name, hyperparameters=changes)) == ("INVALID_FIELD", fields)
    assert (await manager.get(name)).state == Task.FAILED
    changes = task_spec_pb2.Hyperparameters(learning_rate=0.1, per_device_train_batch_size=2)
    again = await retry(manager, name, hyperparameters=changes)
    effective = again.effective_hyperparameters
    assert (effective.learning_rate, effective.max_steps, effective.global_batch_size) == (0.1, 50, 16)
    assert again.spec.fine_tuning.hyperparameters.learning_rate == 0.5, "what was asked for first stays"
    run = await manager.run_of(again, attempt=2)
    assert (run.run.hyperparameters.learning_rate, run.run.first_attempt) == (0.1, 0)
    await run.end(Task.FAILED)
    await manager.until(name, Task.FAILED)
    third = await retry(manager, name, hyperparameters=task_spec_pb2.Hyperparameters(weight_decay=0.2))
    assert (third.effective_hyperparameters.learning_rate, third.effective_hyperparameters.weight_decay) == (0.1, 0.2)


async def test_from_the_start_everything_may_change_and_no_earlier_checkpoint_counts(
    manager: Platform, trainer: FakeTrainer, storage: FakeStorage
) -> None:
    name = await failed(manager)
    storage.artifacts.append(checkpoint(name, 20))
    changes = task_spec_pb2.Hyperparameters(seed=3, num_processes=2)
    again = await retry(manager, name, hyperparameters=changes, from_start=True)
    run = await manager.run_of(again, attempt=2)
    assert (run.run.first_attempt, run.run.hyperparameters.seed, run.run.hyperparameters.num_processes) == (2, 3, 2)


async def test_values_out_of_range_are_refused_as_when_a_task_is_created(manager: Platform, trainer: FakeTrainer) -> None:
    name = await failed(manager)
    changes = task_spec_pb2.Hyperparameters(learning_rate=-1.0)
    reason, fields = await refused(retry(manager, name, hyperparameters=changes))
    assert (reason, fields) == ("INVALID_FIELD", ["task.spec.fine_tuning.hyperparameters.learning_rate"])


async def test_checkpoints_are_listed_by_step_and_the_best_is_marked(manager: Platform, storage: FakeStorage) -> None:
    task = await manager.create()
    storage.artifacts += [
        checkpoint(task.name, 10, eval_loss=0.5, labels=["good"]),
        checkpoint(task.name, 30, eval_loss=0.7),
        checkpoint(task.name, 20),
        checkpoint("tasks/other", 40),
    ]
    answer = await manager.stub.ListCheckpoints(api.ListCheckpointsRequest(name=task.name))
    assert [(each.step, each.best, list(each.labels)) for each in answer.checkpoints] == [
        (30, False, []),
        (20, False, []),
        (10, True, ["good"]),
    ]
    assert answer.checkpoints[2].name == f"{task.name}@step-10"
    assert answer.checkpoints[2].artifact == storage.artifacts[0].name
    assert not answer.checkpoints[1].HasField("eval_loss")


async def test_a_running_task_is_asked_for_a_checkpoint_and_others_are_not(manager: Platform, trainer: FakeTrainer) -> None:
    task = await manager.create()
    run = await manager.run_of(task)
    save = api.SaveCheckpointRequest(name=task.name, label="good")
    await run.start_training()
    running = await manager.until(task.name, Task.RUNNING)
    answer = await manager.stub.SaveCheckpoint(save)
    assert trainer.saves == [(run.run.name, "good")]
    assert answer.after_sequence >= running.head_sequence
    trainer.refusal = ServiceError("RUN_NOT_RUNNING", "it has ended")
    assert (await refused(manager.stub.SaveCheckpoint(save)))[0] == "RUN_NOT_RUNNING"
    trainer.refusal = None
    await run.succeed(1)
    await manager.until(task.name, Task.SUCCEEDED)
    assert (await refused(manager.stub.SaveCheckpoint(save)))[0] == "TASK_NOT_RUNNING"


async def test_a_task_starts_from_a_checkpoint_by_its_name_and_says_so(manager: Platform, storage: FakeStorage) -> None:
    earlier = f"tasks/{uuid.uuid4()}"
    storage.artifacts.append(checkpoint(earlier, 20))
    ask = a_task()
    ask.spec.fine_tuning.initial_artifact = f"{earlier}@step-20"
    request = api.CreateTaskRequest(task=ask, request_id=new_id(), cloned_from=earlier)
    task = await manager.stub.CreateTask(request)
    name = storage.artifacts[0].name
    assert task.origin == task_pb2.TaskOrigin(artifact=name, task=earlier, step=20, cloned_from=earlier)
    assert task.spec.fine_tuning.initial_artifact == name
    assert task.effective_hyperparameters.lora.rank == 8, "the earlier task's"
    assert (await manager.stub.CreateTask(request)).name == task.name
    run = await manager.run_of(task)
    assert run.run.spec.fine_tuning.initial_artifact == name
    assert set(storage.held) == {name}, "before the task is there"
    from_it = api.ListTasksRequest(initial_artifacts=[name, f"artifacts/{uuid.uuid4()}"])
    assert [each.name for each in (await manager.stub.ListTasks(from_it)).tasks] == [task.name]
    from_other = api.ListTasksRequest(initial_artifacts=[f"artifacts/{uuid.uuid4()}"])
    assert not (await manager.stub.ListTasks(from_other)).tasks


async def test_what_a_task_started_from_may_be_gone_once_it_has_a_checkpoint(
    manager: Platform, trainer: FakeTrainer, storage: FakeStorage
) -> None:
    origin = checkpoint(f"tasks/{uuid.uuid4()}", 20)
    storage.artifacts.append(origin)
    ask = a_task()
    ask.spec.fine_tuning.initial_artifact = origin.name
    task = await manager.stub.CreateTask(api.CreateTaskRequest(task=ask))
    run = await manager.run_of(task)
    await run.end(Task.FAILED)
    await manager.until(task.name, Task.FAILED)
    storage.artifacts.remove(origin)
    assert (await refused(retry(manager, task.name)))[0] == "ARTIFACT_NOT_FOUND", "it would begin anew"
    changes = task_spec_pb2.Hyperparameters(learning_rate=0.1)
    assert (await refused(retry(manager, task.name, hyperparameters=changes)))[0] == "ARTIFACT_NOT_FOUND"
    storage.artifacts.append(checkpoint(task.name, 5))
    again = await retry(manager, task.name, hyperparameters=changes)
    assert (again.effective_hyperparameters.learning_rate, again.effective_hyperparameters.lora.rank) == (0.1, 8)


async def test_a_step_of_an_attempt_that_counts_no_more_is_not_found(
    manager: Platform, trainer: FakeTrainer, storage: FakeStorage
) -> None:
    name = await failed(manager)
    storage.artifacts.append(checkpoint(name, 20))
    await retry(manager, name, from_start=True)
    ask = a_task()
    ask.spec.fine_tuning.initial_artifact = f"{name}@step-20"
    create = api.CreateTaskRequest(task=ask)
    assert (await refused(manager.stub.CreateTask(create)))[0] == "CHECKPOINT_NOT_FOUND"
    storage.artifacts.append(checkpoint(name, 20, attempt=2))
    assert (await manager.stub.CreateTask(create)).origin.artifact == storage.artifacts[1].name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tasks/{task}@step-21", "CHECKPOINT_NOT_FOUND"),
        ("artifacts/44444444-4444-4444-8444-444444444444", "ARTIFACT_NOT_FOUND"),
        ("tasks/44444444-4444-4444-8444-444444444444", "TASK_NOT_FOUND"),
        ("tasks/{task}@best", "INVALID_NAME"),
        ("models/x", "MODEL_VERSION_NOT_FOUND"),
        ("models/../x", "INVALID_NAME"),
        ("tasks/{unfinished}", "INVALID_FIELD"),
    ],
)
async def test_what_is_not_there_is_refused_before_anything_is_queued(
    manager: Platform, storage: FakeStorage, name: str, reason: str
) -> None:
    task, unfinished = uuid.uuid4(), (await manager.create()).name.removeprefix("tasks/")
    storage.artifacts.append(checkpoint(f"tasks/{task}", 20))
    ask = a_task()
    ask.spec.fine_tuning.initial_artifact = name.format(task=task, unfinished=unfinished)
    assert (await refused(manager.stub.CreateTask(api.CreateTaskRequest(task=ask))))[0] == reason
    assert (await refused(manager.stub.PlanTask(api.PlanTaskRequest(task=ask))))[0] == reason


def imported(storage: FakeStorage, kind: str, base_model: str = "", **files: object) -> str:
    """The name by which the version is asked for; its own is models/mine/versions/3."""
    version = registered_model_pb2.ModelVersion(name="models/mine/versions/3", format=kind)
    version.manifest.base_model = base_model
    storage.versions["models/mine@best"] = version
    storage.version_files = {f"{name}.json": json.dumps(content).encode() for name, content in files.items()}
    return "models/mine@best"


async def test_a_task_continues_an_imported_adapter(manager: Platform, storage: FakeStorage) -> None:
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    ask = a_task()
    ask.spec.fine_tuning.initial_artifact = imported(storage, "ADAPTER", BASE_MODEL, adapter_config=config)
    task = await manager.stub.CreateTask(api.CreateTaskRequest(task=ask))
    assert task.origin == task_pb2.TaskOrigin(artifact="models/mine/versions/3")
    assert set(storage.held) == {"models/mine/versions/3"}, "before the task is there"
    from_it = await manager.stub.ListTasks(api.ListTasksRequest(initial_artifacts=["models/mine@3", "models/mine/versions/4"]))
    assert [each.name for each in from_it.tasks] == [task.name]
    assert task.spec.fine_tuning.initial_artifact == "models/mine/versions/3", "the alias may move"
    lora = task.effective_hyperparameters.lora
    assert (lora.rank, lora.alpha, list(lora.target_modules)) == (4, 8, ["q_proj"])
    run = await manager.run_of(task)
    assert run.run.spec.fine_tuning.initial_artifact == "models/mine/versions/3"
    await run.end(Task.FAILED)
    await manager.until(task.name, Task.FAILED)
    storage.versions.clear()
    assert (await refused(retry(manager, task.name)))[0] == "MODEL_VERSION_NOT_FOUND", "it would begin anew"


async def test_an_imported_adapter_that_does_not_fit_is_refused_by_field(manager: Platform, storage: FakeStorage) -> None:
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 2}}
    ask = a_task()
    ask.spec.fine_tuning.initial_artifact = imported(storage, "ADAPTER", "baseModels/other", adapter_config=config)
    ask.spec.fine_tuning.hyperparameters.lora.rank = 8
    where = "task.spec.fine_tuning"
    start = f"{where}.initial_artifact"
    reason, fields = await refused(manager.stub.CreateTask(api.CreateTaskRequest(task=ask)))
    assert (reason, fields) == ("INVALID_FIELD", [start, start, f"{where}.hyperparameters.lora.rank"])


@pytest.mark.parametrize(("layers", "fits"), [(2, True), (3, False)])
async def test_a_whole_model_replaces_one_of_the_same_layout(
    manager: Platform, storage: FakeStorage, layers: int, fits: bool
) -> None:
    shape = {"hidden_size": 8, "intermediate_size": 16, "vocab_size": 99, "num_attention_heads": 2, "num_hidden_layers": 2}
    storage.model_config = json.dumps(shape).encode()
    ask = a_task()
    ask.spec.fine_tuning.tuning = task_spec_pb2.FineTuning.FULL
    ask.spec.fine_tuning.initial_artifact = imported(storage, "MODEL", config=shape | {"num_hidden_layers": layers})
    create = api.CreateTaskRequest(task=ask)
    if fits:
        assert (await manager.stub.CreateTask(create)).origin.artifact == "models/mine/versions/3"
    else:
        assert await refused(manager.stub.CreateTask(create)) == ("INVALID_FIELD", ["task.spec.fine_tuning.initial_artifact"])


async def test_a_layout_that_cannot_be_read_now_is_not_called_another(manager: Platform, storage: FakeStorage) -> None:
    ask = a_task()
    ask.spec.fine_tuning.tuning = task_spec_pb2.FineTuning.FULL
    ask.spec.fine_tuning.initial_artifact = imported(storage, "MODEL")
    assert await refused(manager.stub.CreateTask(api.CreateTaskRequest(task=ask))) == ("STORAGE_UNAVAILABLE", [])


async def test_weights_that_do_not_fit_are_refused_by_field(manager: Platform, storage: FakeStorage) -> None:
    storage.artifacts.append(checkpoint(f"tasks/{uuid.uuid4()}", 20, base_model="baseModels/other"))
    ask = a_task()
    ask.spec.fine_tuning.initial_artifact = storage.artifacts[0].name
    ask.spec.fine_tuning.hyperparameters.lora.rank = 4
    reason, fields = await refused(manager.stub.CreateTask(api.CreateTaskRequest(task=ask)))
    where = "task.spec.fine_tuning"
    assert (reason, fields) == ("INVALID_FIELD", [f"{where}.initial_artifact", f"{where}.hyperparameters.lora.rank"])
