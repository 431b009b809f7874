"""What StartRun takes and refuses, and what the capacity says meanwhile."""

import asyncio
import importlib.metadata
import shutil
import uuid
from pathlib import Path

import grpc
import pytest
from trainer_face import Face, eventually, make_run
from trainer_scripts import GOOD, RUNS_ON
from trainer_storage import FakeStorage

from services.common.rich_status import from_rpc_error, reason_of
from tunesmith.v1 import trainer_service_pb2

pytestmark = pytest.mark.integration

DATASET = "datasets/7d3f0f3e-3f0e-4c6e-9f4f-0d0a8f0f1a11"
TASK = str(uuid.UUID(int=7))


async def refused(face: Face, run: trainer_service_pb2.Run) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await face.stub.StartRun(trainer_service_pb2.StartRunRequest(run=run), timeout=20)
    return caught.value


async def capacity(face: Face) -> trainer_service_pb2.Capacity:
    return await face.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest(), timeout=20)


async def test_a_trainer_tells_its_version(face: Face) -> None:
    assert (await capacity(face)).version == importlib.metadata.version("tunesmith")


async def test_nothing_is_written_for_a_name_that_is_no_name(face: Face) -> None:
    for name in (
        "",
        "runs/",
        "runs/../../etc/passwd",
        f"runs/{TASK}-1/../x",
        f"runs/{TASK}-0",
        f"tasks/{TASK}-1",
        f"runs/{TASK}",
    ):
        run = make_run(DATASET)
        run.name = name
        error = await refused(face, run)
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME"), name
    assert list(face.runs.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"), [("task", f"tasks/{uuid.UUID(int=8)}"), ("attempt", 2), ("epoch", 0), ("spec", None)]
)
async def test_a_run_that_contradicts_itself_is_refused(face: Face, field: str, value: object) -> None:
    run = make_run(DATASET, task=TASK)
    run.ClearField(field) if value is None else setattr(run, field, value)
    error = await refused(face, run)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = from_rpc_error(error)
    assert "run." in status.message


async def test_capacity_follows_the_runs(face: Face, storage: FakeStorage) -> None:
    before = await capacity(face)
    assert (before.total_processes, before.free_processes, before.active_run_count) == (4, 4, 0)
    assert before.device in ("cpu", "cuda")

    name = await face.submit(storage.add_script(*RUNS_ON), processes=3)

    during = await capacity(face)
    assert (during.free_processes, during.active_run_count) == (1, 1)
    error = await refused(face, make_run(DATASET, processes=2))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY")
    await face.cancel(name)
    await face.watch(name)
    assert (await capacity(face)).free_processes == 4


async def test_more_processes_than_there_ever_are_is_the_caller_s_mistake(face: Face) -> None:
    error = await refused(face, make_run(DATASET, processes=5))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_PROCESSES")


async def test_an_older_epoch_is_refused_also_after_a_restart(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*GOOD), task=TASK, attempt=2, epoch=5)
    await face.watch(name)
    await face.end(9)
    await face.start()
    error = await refused(face, make_run(DATASET, task=TASK, attempt=1, epoch=4))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "STALE_EPOCH")


async def test_unknown_runs_are_not_found(face: Face) -> None:
    name = f"runs/{TASK}-1"
    calls = (
        face.stub.GetRun(trainer_service_pb2.GetRunRequest(name=name)),
        face.stub.CancelRun(trainer_service_pb2.CancelRunRequest(name=name)),
        face.watch(name),
    )
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_runs_are_listed_newest_first(face: Face, storage: FakeStorage) -> None:
    names = [await face.submit(storage.add_script(*RUNS_ON)) for _ in range(3)]
    listed = (await face.stub.ListRuns(trainer_service_pb2.ListRunsRequest())).runs
    assert [run.name for run in listed] == names[::-1]


@pytest.mark.parametrize(
    "change", [{"LISTEN": "TAKEN"}, {"PROCESSES": "0"}, {"PROCESES": "1"}, {"STORAGE_TLS_CA": "nowhere.pem"}]
)
async def test_a_setting_that_cannot_work_is_named_without_a_traceback(
    face: Face, storage: FakeStorage, tmp_path: Path, change: dict[str, str]
) -> None:
    root = tmp_path / "second"
    root.mkdir()
    values = Face(root, storage.port).settings | {"LISTEN": "127.0.0.1:0"} | change
    values = {name: f"127.0.0.1:{storage.port}" if value == "TAKEN" else value for name, value in values.items()}
    second = Face(root, storage.port)._spawn({f"TUNESMITH_TRAINER_{name}": value for name, value in values.items()})
    assert await asyncio.to_thread(second.wait, 60) == 2
    said = (root / "face.log").read_text()
    assert "error: " in said
    assert "Traceback" not in said


async def test_a_second_trainer_over_the_same_directory_does_not_start(face: Face, storage: FakeStorage) -> None:
    second = Face(face.root, storage.port)
    starting = second._spawn({"PATH": "", **{f"TUNESMITH_TRAINER_{k}": v for k, v in face.settings.items()}, **LISTEN})
    assert await asyncio.to_thread(starting.wait, 60) == 2
    assert "another trainer uses it" in (face.root / "face.log").read_text()


async def test_a_directory_that_is_no_run_does_not_stop_the_others(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*GOOD))
    await face.watch(name)
    await face.end(9)
    (face.runs / "lost+found").mkdir()
    (face.runs / f"{TASK}-1").mkdir()
    (face.runs / f"{TASK}-1" / "run.json").write_text("{")
    shutil.copytree(face.directory(name), face.runs / f"{TASK}-2")
    (face.runs / f"{TASK}-2" / "journal.jsonl").write_bytes(b"\0\0\n")

    await face.start()

    await eventually(lambda: (face.root / "face.log").read_text().count("run.unreadable") == 3, "nobody complains")
    assert (await face.get(name)).name == name


LISTEN = {"TUNESMITH_TRAINER_LISTEN": "127.0.0.1:0"}
