"""CancelRun, a newer attempt and SIGINT: whatever ends a run, its whole process tree is gone."""

import os
import signal

import pytest
from trainer_face import Face, eventually
from trainer_scripts import GOOD, RUNS_ON
from trainer_storage import FakeStorage

from tunesmith.v1 import task_pb2, trainer_service_pb2

pytestmark = pytest.mark.integration

TASK = "3f1c2e52-74c1-4c27-9a55-6a0d0a2f3b11"


async def running(face: Face, storage: FakeStorage, *script: dict, processes: int = 1, **more) -> str:
    name = await face.submit(storage.add_script(*script, *RUNS_ON), processes=processes, **more)
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    assert (await face.get(name)).state == task_pb2.Task.RUNNING
    return name


@pytest.mark.parametrize("detached", [False, True])
async def test_a_cancelled_run_leaves_no_process_not_even_a_deaf_grandchild(
    face: Face, storage: FakeStorage, detached: bool
) -> None:
    name = await running(face, storage, {"do": "spawn", "detached": detached}, processes=2)
    await eventually(lambda: len(face.survivors()) == 5, "supervisor, two ranks and their children are not there")

    answer = await face.cancel(name)
    assert answer.state == task_pb2.Task.CANCELLING
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.CANCELLED
    assert not end.HasField("error")
    assert face.remains() == []


async def test_a_rank_that_ignores_sigterm_is_killed_after_the_grace(face: Face, storage: FakeStorage) -> None:
    name = await running(face, storage, {"do": "ignore_sigterm"})
    await face.cancel(name)
    _, end = await face.watch(name)
    assert end.state == task_pb2.Task.CANCELLED
    assert face.remains() == []


async def test_a_supervisor_that_does_not_listen_is_killed_with_its_tree(face: Face, storage: FakeStorage) -> None:
    name = await running(face, storage, {"do": "spawn", "detached": True})
    [supervisor] = face.supervisors()
    supervisor.suspend()

    await face.cancel(name)
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.CANCELLED
    assert face.remains() == []


async def test_cancelling_while_preparing_starts_no_process(face: Face, storage: FakeStorage) -> None:
    storage.download.clear()
    name = await face.submit(storage.add_script(*RUNS_ON))
    await storage.downloading.wait()

    await face.cancel(name)
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.CANCELLED
    assert not (face.directory(name) / "config.json").exists()
    assert face.remains() == []


async def test_cancelling_while_uploading_ends_cancelled(face: Face, storage: FakeStorage) -> None:
    storage.upload.clear()
    name = await face.submit(storage.add_script(*GOOD))
    await storage.uploading.wait()

    await face.cancel(name)
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.CANCELLED
    assert storage.artifacts == {}


async def test_a_finished_run_is_returned_as_it_is(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*GOOD))
    await face.watch(name)
    assert (await face.cancel(name)).state == task_pb2.Task.SUCCEEDED


async def test_a_wish_to_cancel_survives_a_killed_face(face: Face, storage: FakeStorage) -> None:
    storage.download.clear()
    name = await face.submit(storage.add_script(*RUNS_ON))
    await storage.downloading.wait()
    # Stopped, the face can take the wish down but not act on it.
    (face.directory(name) / "cancel").touch()
    await face.end(signal.SIGKILL)
    storage.download.set()

    await face.start()
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.CANCELLED
    assert face.remains() == []


async def test_a_newer_attempt_ends_the_older_one_before_it_starts(face: Face, storage: FakeStorage) -> None:
    older = await running(face, storage, {"do": "spawn", "detached": True}, task=TASK, attempt=1, epoch=1, processes=4)
    newer = await face.submit(storage.add_script(*GOOD), task=TASK, attempt=2, epoch=2, processes=4)

    _, end = await face.watch(newer)
    _, older_end = await face.watch(older)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert (older_end.state, older_end.error.reason) == (task_pb2.Task.FAILED, "STALE_EPOCH")
    assert face.remains() == []


async def test_sigint_ends_every_run_for_good(face: Face, storage: FakeStorage) -> None:
    trained = await running(face, storage, {"do": "spawn", "detached": True}, {"do": "ignore_sigterm"})
    storage.download.clear()
    storage.downloading.clear()
    prepared = await face.submit(storage.add_script(*RUNS_ON))
    await storage.downloading.wait()

    assert await face.end(signal.SIGINT) == 0

    assert face.remains() == []
    await face.start()
    for name in (trained, prepared):
        run = await face.get(name)
        assert (run.state, run.error.reason) == (task_pb2.Task.FAILED, "RUN_STOPPED")


async def test_sigterm_leaves_the_runs_alone(face: Face, storage: FakeStorage) -> None:
    name = await running(face, storage)
    before = {process.pid for process in face.survivors()}

    assert await face.end(signal.SIGTERM) == 0

    assert {process.pid for process in face.survivors()} == before
    await face.start()
    assert (await face.get(name)).state == task_pb2.Task.RUNNING
    await face.cancel(name)
    _, end = await face.watch(name)
    assert end.state == task_pb2.Task.CANCELLED


async def test_a_supervisor_ended_by_somebody_else_fails_the_run(face: Face, storage: FakeStorage) -> None:
    name = await running(face, storage)
    os.kill(face.supervisors()[0].pid, signal.SIGTERM)
    _, end = await face.watch(name)
    assert (end.state, end.error.reason) == (task_pb2.Task.FAILED, "RUN_STOPPED")


async def test_a_paused_run_ends_by_name_and_its_tree_is_gone(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*RUNS_ON))
    await eventually((face.directory(name) / "ready").exists, "training did not start")

    for _ in range(2):
        await face.stub.PauseRun(trainer_service_pb2.PauseRunRequest(name=name))
    _, end = await face.watch(name)

    assert (end.state, end.error.reason) == (task_pb2.Task.FAILED, "RUN_PAUSED")
    assert face.remains() == []
    assert (await face.stub.PauseRun(trainer_service_pb2.PauseRunRequest(name=name))).state == task_pb2.Task.FAILED


async def test_cancelling_a_run_goes_before_pausing_it(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script({"do": "ignore_sigterm"}, *RUNS_ON))
    await eventually((face.directory(name) / "ready").exists, "training did not start")

    await face.stub.PauseRun(trainer_service_pb2.PauseRunRequest(name=name))
    await face.cancel(name)
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.CANCELLED
