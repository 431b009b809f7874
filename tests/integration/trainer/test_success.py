"""A run from StartRun to its stored adapter."""

import hashlib
import json

import grpc
import psutil
import pytest
from trainer_face import Face, assert_dense, eventually, eventually_async, texts
from trainer_scripts import GOOD
from trainer_storage import BASE_MODEL, REVISION, FakeStorage

from tunesmith.v1 import artifact_pb2, task_pb2, trainer_service_pb2

pytestmark = pytest.mark.integration


async def test_a_run_ends_succeeded_with_its_adapter_in_storage(face: Face, storage: FakeStorage) -> None:
    dataset = storage.add_script(*GOOD)

    name = await face.submit(dataset)
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED, (end, texts(events))
    assert end.artifact == storage.artifacts[name].name
    assert_dense(events)
    assert end.head_sequence == events[-1].sequence
    assert [event.step_metrics.values["loss"] for event in events if event.HasField("step_metrics")] == [1.0, 0.5, 1 / 3]
    [started] = [event.training_started for event in events if event.HasField("training_started")]
    assert (started.total_steps, started.token_count, started.device) == (3, 60, "cpu")
    [created] = [event.artifact_created for event in events if event.HasField("artifact_created")]
    assert (created.artifact, created.expire_time.seconds) == (end.artifact, 2_000_000_000)
    assert {event.attempt for event in events} == {1}
    assert face.remains() == []
    assert face.process
    await eventually(lambda: not psutil.Process(face.process.pid).children(), "a zombie is left")


async def test_the_manifest_says_how_to_make_the_adapter_again(face: Face, storage: FakeStorage) -> None:
    dataset = storage.add_script(*GOOD)

    name = await face.submit(dataset, epoch=5)
    await face.watch(name)

    [header] = storage.headers
    manifest = header.manifest
    assert (header.kind, header.epoch, header.request_id) == (artifact_pb2.Artifact.ADAPTER, 5, name)
    assert manifest.task == f"tasks/{name.removeprefix('runs/')[:36]}"
    assert (manifest.base_model, manifest.base_model_revision) == (BASE_MODEL, REVISION)
    assert manifest.dataset_sha256 == hashlib.sha256(storage.datasets[dataset]).hexdigest()
    assert manifest.effective_hyperparameters.lora.rank == 4
    assert not manifest.effective_hyperparameters.HasField("max_steps")
    assert (manifest.step, manifest.metrics["loss"], manifest.versions["fake"]) == (3, 0.5, "1.0")
    contents = storage.contents[name]
    assert [file.path for file in manifest.files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert {file.path: file.sha256 for file in manifest.files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in contents.items()
    }


async def test_the_trainer_says_what_it_does_itself(face: Face, storage: FakeStorage) -> None:
    dataset, validation = storage.add_script(*GOOD), storage.add_dataset(b'{"messages": []}\n')

    name = await face.submit(dataset, validation=validation)
    events, _ = await face.watch(name)

    assert texts(events, rank=-1) == [
        f"downloading dataset {dataset}",
        f"downloading dataset {validation}",
        "fetching base model baseModels/tiny",
        "starting 1 process",
        "uploading adapter, 2 files, 2.6 MB",
    ]
    assert (face.directory(name) / "data" / "validation.jsonl").read_bytes() == storage.datasets[validation]


async def test_ranks_get_what_a_process_group_needs_and_no_setting_of_the_trainer(face: Face, storage: FakeStorage) -> None:
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "HF_HUB_OFFLINE"]
    names += ["TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM", "TUNESMITH_TRAINER_STORAGE_ADDRESS"]
    dataset = storage.add_script({"do": "environment", "names": names}, *GOOD)

    name = await face.submit(dataset, processes=2)
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    seen = [json.loads(texts(events, rank=rank)[0]) for rank in (0, 1)]
    assert [(one["RANK"], one["LOCAL_RANK"], one["WORLD_SIZE"]) for one in seen] == [("0", "0", "2"), ("1", "1", "2")]
    assert seen[0]["MASTER_PORT"] == seen[1]["MASTER_PORT"]
    assert {one["MASTER_ADDR"] for one in seen} == {"127.0.0.1"}
    assert int(seen[0]["OMP_NUM_THREADS"]) >= 1
    assert seen[0]["HF_HUB_OFFLINE"] == seen[0]["TRANSFORMERS_OFFLINE"] == "1"
    assert seen[0]["TOKENIZERS_PARALLELISM"] == "false"
    assert seen[0]["TUNESMITH_TRAINER_STORAGE_ADDRESS"] is None


async def test_a_repeated_start_returns_the_run_as_it_is(face: Face, storage: FakeStorage) -> None:
    task = "0b0e4f0c-6d0f-4bb0-8d5e-3c1f3b6f2a11"
    dataset = storage.add_script(*GOOD)

    name = await face.submit(dataset, task=task)
    await face.watch(name)
    await face.submit(dataset, task=task)

    run = await face.get(name)
    assert (run.state, run.artifact) == (task_pb2.Task.SUCCEEDED, storage.artifacts[name].name)
    assert run.spec.fine_tuning.dataset == dataset
    assert len((await face.stub.ListRuns(trainer_service_pb2.ListRunsRequest())).runs) == 1
    assert len(storage.headers) == 1


async def test_a_taken_port_is_tried_again_once_with_another(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script({"do": "port_taken_once"}, *GOOD))
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert any("port" in text for text in texts(events, rank=-1))


async def test_a_finished_run_is_deleted_after_its_retention(make_face, storage: FakeStorage) -> None:
    face = await make_face(RUN_RETENTION="300ms")
    name = await face.submit(storage.add_script(*GOOD))
    directory = face.directory(name)

    async def is_gone() -> bool:
        try:
            await face.get(name)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        return False

    await eventually_async(is_gone, "the run is still known")
    assert not directory.exists()
    assert storage.artifacts[name]
