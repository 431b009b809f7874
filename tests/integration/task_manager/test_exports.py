"""A task of another kind lives as every task does: recorded, started, followed, listed by what it is, tried again."""

import uuid

import grpc
import pytest
from integration.task_manager.fake_peers import ARTIFACT, BASE_MODEL, FakeStorage, FakeTrainer
from integration.task_manager.manager_harness import Platform, reason_and_fields

from tunesmith.v1 import artifact_pb2, export_pb2, task_pb2, task_spec_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

pytestmark = pytest.mark.integration

SOURCE = f"artifacts/{uuid.UUID(int=9)}"
MAKER = f"tasks/{uuid.UUID(int=7)}"
Kind = task_spec_pb2.TaskSpec


@pytest.fixture
def adapter(storage: FakeStorage) -> artifact_pb2.Artifact:
    manifest = artifact_pb2.ArtifactManifest(task=MAKER, step=5, attempt=1, base_model=BASE_MODEL)
    artifact = artifact_pb2.Artifact(name=SOURCE, kind=artifact_pb2.Artifact.ADAPTER, manifest=manifest)
    storage.artifacts.append(artifact)
    return artifact


def an_export(artifact: str = SOURCE, **changes: int) -> task_pb2.Task:
    asked = export_pb2.Export(artifact=artifact, **{"format": export_pb2.Export.MERGED} | changes)  # type: ignore[arg-type]
    return task_pb2.Task(display_name="an export", spec=task_spec_pb2.TaskSpec(export=asked))


async def create(manager: Platform, task: task_pb2.Task) -> task_pb2.Task:
    return await manager.stub.CreateTask(api.CreateTaskRequest(task=task), wait_for_ready=True)


async def kinds(manager: Platform, *wanted: int) -> list[str]:
    answer = await manager.stub.ListTasks(api.ListTasksRequest(filter=api.TaskFilter(kinds=wanted)))  # type: ignore[arg-type]
    return sorted(str(task.spec.WhichOneof("kind")) for task in answer.tasks)


async def test_an_export_lives_as_every_task(
    manager: Platform, storage: FakeStorage, trainer: FakeTrainer, adapter: artifact_pb2.Artifact
) -> None:
    created = await create(manager, an_export())
    assert not created.effective_hyperparameters.ByteSize()
    assert (created.origin.artifact, created.origin.task, created.origin.step) == (SOURCE, MAKER, 5)
    assert storage.held == [SOURCE], "it must not expire while the task waits"
    run = await manager.run_of(created)
    assert run.run.spec.export == created.spec.export
    assert not run.run.hyperparameters.ByteSize()

    await run.succeed(4)

    ended = await manager.until(created.name, task_pb2.Task.SUCCEEDED)
    assert (ended.artifact, ended.progress.step, ended.progress.total_steps) == (ARTIFACT, 4, 4)
    assert ended.state_reason == "the export finished and the artifact is stored"
    await manager.create("a fine-tuning")
    assert await kinds(manager, Kind.EXPORT) == ["export"]
    assert await kinds(manager, Kind.FINE_TUNING) == ["fine_tuning"]
    assert await kinds(manager, Kind.FINE_TUNING, Kind.EXPORT) == await kinds(manager) == ["export", "fine_tuning"]


async def test_an_export_that_failed_is_tried_again_and_not_with_other_numbers(
    manager: Platform, adapter: artifact_pb2.Artifact
) -> None:
    created = await create(manager, an_export())
    await (await manager.run_of(created)).end(task_pb2.Task.FAILED, "EXPORT_UNFAITHFUL")
    await manager.until(created.name, task_pb2.Task.FAILED)
    numbers = task_spec_pb2.Hyperparameters(seed=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await manager.stub.RetryTask(api.RetryTaskRequest(name=created.name, hyperparameters=numbers))
    assert reason_and_fields(caught.value) == ("INVALID_FIELD", ["hyperparameters"])

    await manager.stub.RetryTask(api.RetryTaskRequest(name=created.name))

    await (await manager.run_of(created, attempt=2)).succeed(4)
    assert (await manager.until(created.name, task_pb2.Task.SUCCEEDED)).attempt == 2


async def test_what_cannot_be_exported_is_refused_before_it_is_queued(
    manager: Platform, storage: FakeStorage, adapter: artifact_pb2.Artifact
) -> None:
    adapter.kind = artifact_pb2.Artifact.MODEL
    for task, reason, field in (
        (an_export(), "INVALID_FIELD", "task.spec.export.artifact"),
        (an_export(format=0), "INVALID_FIELD", "task.spec.export.format"),
        (an_export("artifacts/x"), "INVALID_NAME", "task.spec.export.artifact"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await create(manager, task)
        assert reason_and_fields(caught.value) == (reason, [field])
    assert await kinds(manager) == []
    assert storage.held == []
