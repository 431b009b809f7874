"""kill -9 of the face in every phase: the next one goes on where the run is; nothing is lost, nothing happens twice."""

import asyncio
import signal

import pytest
from trainer_face import Face, assert_dense, eventually, texts
from trainer_scripts import GOOD, HELD
from trainer_storage import FakeStorage

from tunesmith.v1 import task_event_pb2, task_pb2

pytestmark = pytest.mark.integration

RESULT = {"do": "result", "step": 4}
LAST_STEPS = {"do": "steps", "first": 3, "last": 4}


def steps(events: list[task_event_pb2.TaskEvent]) -> list[int]:
    return [event.step_metrics.step for event in events if event.HasField("step_metrics")]


async def test_killed_while_preparing(face: Face, storage: FakeStorage) -> None:
    storage.download.clear()
    name = await face.submit(storage.add_script(*GOOD))
    await storage.downloading.wait()
    await face.end(signal.SIGKILL)
    storage.download.set()

    await face.start()
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    assert steps(events) == [1, 2, 3]
    assert texts(events).count("starting 1 process") == 1


async def test_killed_while_training(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*HELD, LAST_STEPS, RESULT))
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    before = {process.pid for process in face.survivors()}
    await face.end(signal.SIGKILL)
    assert {process.pid for process in face.survivors()} == before

    await face.start()
    assert (await face.get(name)).state == task_pb2.Task.RUNNING
    (face.directory(name) / "go").touch()
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    assert steps(events) == [1, 2, 3, 4]


async def test_training_that_ends_while_no_face_is_there(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*HELD, LAST_STEPS, RESULT))
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    await face.end(signal.SIGKILL)
    (face.directory(name) / "go").touch()
    await eventually(lambda: not face.survivors(), "the supervisor did not end by itself")

    await face.start()
    events, end = await face.watch(name)

    assert (end.state, steps(events)) == (task_pb2.Task.SUCCEEDED, [1, 2, 3, 4])


async def test_a_supervisor_killed_while_no_face_is_there(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script({"do": "spawn", "detached": True}, *HELD))
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    await face.end(signal.SIGKILL)
    face.supervisors()[0].kill()

    await face.start()
    _, end = await face.watch(name)

    assert (end.state, end.error.reason) == (task_pb2.Task.FAILED, "RUN_LOST")
    assert face.remains() == []


async def test_killed_while_uploading(face: Face, storage: FakeStorage) -> None:
    storage.upload.clear()
    name = await face.submit(storage.add_script(*GOOD))
    await storage.uploading.wait()
    await face.end(signal.SIGKILL)
    storage.upload.set()

    await face.start()
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    assert [len(storage.artifacts), steps(events)] == [1, [1, 2, 3]]
    assert storage.artifacts[name].name == end.artifact


async def test_killed_between_the_stored_adapter_and_its_event(face: Face, storage: FakeStorage) -> None:
    storage.answer.clear()
    name = await face.submit(storage.add_script(*GOOD))
    await storage.stored.wait()
    await face.end(signal.SIGKILL)
    storage.answer.set()

    await face.start()
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert [event.artifact_created.artifact for event in events if event.HasField("artifact_created")] == [end.artifact]
    assert storage.artifacts[name].name == end.artifact


async def test_a_cursor_goes_on_over_a_killed_face(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*HELD, LAST_STEPS, RESULT))
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    head = (await face.get(name)).head_sequence
    await face.end(signal.SIGKILL)
    (face.directory(name) / "go").touch()

    await face.start()
    rest, _ = await face.watch(name, after=head)
    everything, _ = await face.watch(name)

    assert_dense(rest, first=head + 1)
    assert everything[head:] == rest


async def test_killed_at_any_moment(face: Face, storage: FakeStorage) -> None:
    """Not aimed at a phase: ten kills in a row, whatever is going on."""
    script = ({"do": "steps", "first": 1, "last": 200, "pause": 0.01}, {"do": "result", "step": 200})
    name = await face.submit(storage.add_script(*script))
    for number in range(10):
        await asyncio.sleep(0.03 * number)
        await face.end(signal.SIGKILL)
        await face.start()

    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    assert steps(events) == list(range(1, 201))
    assert len(storage.artifacts) == 1
    assert face.remains() == []


async def test_storage_away_while_preparing_only_delays(face: Face, storage: FakeStorage) -> None:
    await storage.stop()
    name = await face.submit(storage.add_script(*GOOD))
    await eventually(lambda: "trying again" in face.journal(name), "nobody said it")
    assert (await face.get(name)).state == task_pb2.Task.STARTING

    await storage.start()
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert any("storage did not answer" in text for text in texts(events, rank=-1))


async def test_storage_away_while_finishing_loses_nothing(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_script(*HELD, RESULT))
    await eventually((face.directory(name) / "ready").exists, "training did not start")
    await storage.stop()
    (face.directory(name) / "go").touch()
    await eventually(lambda: "trying again" in face.journal(name), "nobody said it")
    await face.end(signal.SIGKILL)
    await face.start()

    await storage.start()
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert_dense(events)
    assert len(storage.artifacts) == 1
